import ArgumentParser
import BatchLoss
import BatchLossCatalog
import Foundation

/// `bench scale`: time against rows, columns and workers.
struct ScaleCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale",
    abstract: "Measures a workload at every combination of the given sizes and numbers of workers.",
    discussion: """
      Prints CSV, and the header to standard error. A dimension that is not given keeps its size in bench list.
      """)

  @Argument(help: "The workload.") var name: String
  @OptionGroup(title: "Sizes") var sizes: SizeOptions
  @Option(parsing: .upToNextOption, help: "Numbers of workers.") var workerCounts: [Int] = []
  @OptionGroup(title: "Machine") var machine: MachineOptions
  @OptionGroup(title: "Measurement") var options: MeasurementOptions
  @Flag(help: "Print one JSON object a line instead of CSV.") var json = false

  func run() throws {
    let workload = try Workload.named(name)
    try options.check(workload)
    let shapes = try sizes.shapes(of: workload)
    guard workerCounts.isEmpty || machine.workers == nil else {
      throw UsageError("--workers and --worker-counts exclude each other")
    }
    let engines =
      try workerCounts.isEmpty ? [machine.engine()] : workerCounts.map { try machine.engine(workers: $0) }
    switch machine.scalar {
    case .float32: try run(workload, shapes, engines, as: Float.self)
    case .float64: try run(workload, shapes, engines, as: Double.self)
    }
  }

  private func run<Scalar: LossScalar>(
    _ workload: Workload, _ shapes: [Dimensions], _ engines: [Engine], as: Scalar.Type
  ) throws {
    let dimensions = Dimensions.Name.allCases.filter { workload.shapes[0].values[$0] != nil }
    if !json {
      print(
        (["name"] + dimensions.map(\.rawValue)
          + [
            "scalar", "workers", "isa", "median_ms", "min_ms", "spread", "bytes", "flops", "limit_ms",
            "fraction_of_limit", "peak_rss_bytes", "cost",
          ]).joined(separator: ","))
    }
    for engine in engines {
      let limits = try Limits(
        engine: engine, traffic: options.traffic, products: shapes.contains { workload.flops($0) > 0 },
        as: Scalar.self)
      // To standard error in both forms, which leaves rows alone on standard output.
      Header(engine: engine, scalar: machine.scalar, isa: try InstructionSet.current, limits: limits)
        .print(json: true)
      for shape in shapes {
        let row = try Measurement.measure(
          workload, shape, options, configuration: engine.configuration, limits: limits, as: Scalar.self)
        print(json ? try jsonLine(row) : line(row, dimensions.map { shape[$0] }))
        fflush(nil)
      }
    }
  }

  private func line(_ row: Measurement, _ sizes: [Int]) -> String {
    let cells: [Any] =
      [row.name] + sizes + [
        row.scalar, row.workers, row.isa, row.medianMilliseconds, row.minimumMilliseconds, row.spread, row.bytes,
        row.flops, row.limitMilliseconds, row.fractionOfLimit, row.peakResidentBytes, row.cost,
      ]
    return cells.map { "\($0)" }.joined(separator: ",")
  }
}

/// Several sizes for each dimension.
struct SizeOptions: ParsableArguments {
  @Option(parsing: .upToNextOption, help: "Rows of the batch.") var rows: [Int] = []
  @Option(parsing: .upToNextOption, help: "Columns: elements or classes of a row, or the dimension of embeddings.")
  var columns: [Int] = []
  @Option(parsing: .upToNextOption, help: "The depth of matrix products.") var depth: [Int] = []
  @Option(parsing: .upToNextOption, help: "Classes.") var classes: [Int] = []
  @Option(parsing: .upToNextOption, help: "Frames of an utterance.") var time: [Int] = []
  @Option(parsing: .upToNextOption, help: "Utterances.") var batch: [Int] = []
  @Option(parsing: .upToNextOption, help: "Labels of an utterance.") var labels: [Int] = []

  /// Every combination, the last dimension fastest.
  func shapes(of workload: Workload) throws -> [Dimensions] {
    let given: [(Dimensions.Name, [Int])] = [
      (.rows, rows), (.columns, columns), (.depth, depth), (.classes, classes), (.time, time), (.batch, batch),
      (.labels, labels),
    ]
    var combinations = [[Dimensions.Name: Int]()]
    for (name, sizes) in given where !sizes.isEmpty {
      combinations = combinations.flatMap { combination in
        sizes.map { combination.merging([name: $0]) { $1 } }
      }
    }
    return try combinations.map { try workload.shape(with: $0) }
  }
}
