import ArgumentParser
import BatchLoss
import BatchLossCatalog
import BatchLossTensorFiles
import Foundation

/// `batch-loss distances FIRST [SECOND] --output FILE`.
struct DistancesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "distances",
    abstract: "Writes the distances of all rows of a file from all rows of another, or from each other.",
    discussion: """
      Inputs are those of evaluate, of two dimensions; the arithmetic is float32, or float64 when one of them is. The \
      matrix may be larger than memory. It appears under its name only when it is complete.
      """)

  @Argument(help: "The file whose rows are the rows of the matrix.") var first: String
  @Argument(help: "The file whose rows are its columns; without it, those of the first.") var second: String?
  @Option(help: ArgumentHelp("Where the matrix goes.", valueName: "file.npy")) var output: String
  @Option(help: "The distance.") var distance = EmbeddingDistance.euclidean
  @Option(help: "How many blocks are worked on at the same time.") var workers: Int?
  @Flag(help: "Print one JSON object.") var json = false

  func run() throws {
    let engine = Engine(configuration: try Engine.Configuration(workerCount: workers))
    let rows = try Input(RoleUse(.first, .table), first)
    let others = try second.map { try Input(RoleUse(.second, .table), $0) }
    let isDouble = [rows, others].contains { $0?.tensor.elementType == .float64 }
    let matrix = DistanceMatrix(first: rows, second: others, distance: distance, path: output, engine: engine)
    let report = isDouble ? try matrix.write(as: Double.self) : try matrix.write(as: Float.self)
    print(json ? try jsonLine(report) : report.summary())
  }
}

extension EmbeddingDistance: ExpressibleByArgument {}
