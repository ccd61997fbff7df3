import BatchLoss
import BatchLossCatalog
import BatchLossTensorFiles
import Foundation
import Synchronization

/// The distances of the rows of two files, tile by tile into a third.
struct DistanceMatrix {
  let first: Input
  /// `nil` for the distances of the first file's rows from each other.
  let second: Input?
  let distance: EmbeddingDistance
  let path: String
  let engine: Engine

  func write<Scalar: LossScalar & TensorElement>(as: Scalar.Type) throws -> DistancesReport {
    // Readers own what they widen.
    let (rowReader, otherReader) = (RowReader<Scalar>(first), second.map { RowReader<Scalar>($0) })
    let rows = try rowReader.rows(0..<first.rows)
    let others = try second.map { try otherReader!.rows(0..<$0.rows) }
    let shape = [rows.rows, others?.rows ?? rows.rows]
    let output = try TensorOutput(creating: path, elementType: Scalar.tensorElementType, shape: shape)
    let start = DispatchTime.now()
    try withExtendedLifetime((rowReader, otherReader)) {
      try output.withMutableElements(as: Scalar.self) { try fill($0, of: output, rows, others) }
    }
    let seconds = Double(DispatchTime.now().uptimeNanoseconds - start.uptimeNanoseconds) / 1e9
    try output.commit()
    return DistancesReport(
      distance: distance.rawValue, rows: shape[0], others: shape[1], columns: rows.columns,
      scalar: Scalar.self == Float.self ? "float32" : "float64", seconds: seconds,
      workers: engine.configuration.workerCount, instructionSet: try InstructionSet.current.rawValue, output: path)
  }

  private func fill<Scalar: LossScalar & TensorElement>(
    _ elements: UnsafeMutableBufferPointer<Scalar>, of output: TensorOutput, _ rows: Rows<Scalar>,
    _ others: Rows<Scalar>?
  ) throws {
    // Tiles are disjoint.
    nonisolated(unsafe) let elements = elements
    let stride = output.shape[1]
    let progress = RowProgress(rows: rows.rows, columns: stride)
    let copy: @Sendable (borrowing PairwiseDistance.Tile<Scalar>) -> Void = { tile in
      for row in tile.rows {
        let start = row * stride + tile.others.lowerBound
        tile.distances.row(row - tile.rows.lowerBound).withUnsafeBufferPointer {
          _ = UnsafeMutableBufferPointer(rebasing: elements[start..<start + $0.count]).update(fromContentsOf: $0)
        }
      }
      if progress.completes(tile.rows, columns: tile.others.count) {
        output.adviseDone(tile.rows.lowerBound * stride..<tile.rows.upperBound * stride)
      }
    }
    let measure = PairwiseDistance(distance)
    let view = try MatrixView(unsafeElements: rows.elements, rows: rows.rows, columns: rows.columns)
    if let others {
      let other = try MatrixView(unsafeElements: others.elements, rows: others.rows, columns: others.columns)
      try measure.forEachTile(view, other, engine: engine, copy)
    } else {
      try measure.forEachTile(view, engine: engine, copy)
    }
    progress.finish()
  }
}

/// Which rows of a matrix are complete, while tiles of them arrive from several threads.
private final class RowProgress: Sendable {
  private struct State {
    /// The columns that have come, by the first row of their tiles.
    var columns: [Int: Int] = [:]
    var rows = 0
    let line: Progress
  }

  private let columns: Int
  private let state: Mutex<State>

  init(rows: Int, columns: Int) {
    self.columns = columns
    state = Mutex(State(line: Progress(total: rows, label: "distances")))
  }

  /// Takes note of a tile, and says whether it was the last one of its rows.
  func completes(_ rows: Range<Int>, columns count: Int) -> Bool {
    state.withLock { state in
      let known = state.columns[rows.lowerBound, default: 0] + count
      state.columns[rows.lowerBound] = known
      guard known == columns else { return false }
      state.rows += rows.count
      state.line.advance(to: state.rows)
      return true
    }
  }

  func finish() { state.withLock { $0.line.finish() } }
}

/// What `batch-loss distances` says.
struct DistancesReport: Encodable {
  let distance: String
  /// The extents of the matrix.
  let rows: Int
  let others: Int
  /// The elements of a row of the inputs.
  let columns: Int
  let scalar: String
  let seconds: Double
  let workers: Int
  let instructionSet: String
  let output: String

  /// A few aligned lines.
  func summary() -> String {
    alignedLines([
      ("distance", distance), ("shape", "\(rows) × \(others), \(scalar), from rows of \(columns)"),
      ("time", timing(seconds, workers: workers, instructionSet)), ("wrote", output),
    ])
  }
}
