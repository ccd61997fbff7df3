import BatchLoss
import BatchLossCatalog
import BatchLossTensorFiles
import Foundation

/// The files of one evaluation: none of them has its name before all are complete.
struct Outputs<Scalar: LossScalar & TensorElement> {
  private let lossesOutput: TensorOutput?
  private let gradientOutputs: [(input: Input, output: TensorOutput)]
  private let lossesColumns: Int
  /// Whether losses are not those of rows, and are written together.
  private let isWhole: Bool
  private let createdDirectory: String?

  init(
    lossesPath: String?, gradientsDirectory: String?, entry: LossEntry, inputs: [Input], leading: Input,
    isRowWise: Bool, options: LossOptions
  ) throws {
    let type = Scalar.tensorElementType
    lossesColumns = entry.sample == .element ? leading.columns : 1
    isWhole = !isRowWise
    let shape = entry.lossesShape(leading: leading.tensor.shape, options: options)
    lossesOutput = try lossesPath.map {
      try TensorOutput(creating: $0, elementType: type, shape: shape)
    }
    guard let directory = gradientsDirectory else {
      gradientOutputs = []
      createdDirectory = nil
      return
    }
    let exists = FileManager.default.fileExists(atPath: directory)
    if !exists {
      do { try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false) } catch {
        throw UsageError("gradients: cannot create the directory \(directory)")
      }
    }
    createdDirectory = exists ? nil : directory
    do {
      gradientOutputs = try inputs.filter { input in
        entry.roles.contains { $0.role == input.role && $0.isDifferentiable }
      }.map { input in
        let path = (directory as NSString).appendingPathComponent("\(input.role.rawValue).npy")
        return (input, try TensorOutput(creating: path, elementType: type, shape: input.tensor.shape))
      }
    } catch {
      if !exists { rmdir(directory) }
      throw error
    }
  }

  var paths: [String] { (lossesOutput.map { [$0.path] } ?? []) + gradientOutputs.map(\.output.path) }

  func losses(_ part: Range<Int>) throws -> UnsafeMutableBufferPointer<Scalar>? {
    try lossesOutput.map { try slice($0, isWhole ? 0..<$0.elementCount : part, lossesColumns) }
  }

  func gradients(_ part: Range<Int>) throws -> [Role: UnsafeMutableBufferPointer<Scalar>] {
    var result: [Role: UnsafeMutableBufferPointer<Scalar>] = [:]
    for (input, output) in gradientOutputs {
      result[input.role] = try slice(output, input.isPerRow ? part : 0..<input.rows, input.columns)
    }
    return result
  }

  /// Rows of an output. The output is kept by this value, so its map outlives the pointer.
  private func slice(
    _ output: TensorOutput, _ part: Range<Int>, _ columns: Int
  ) throws -> UnsafeMutableBufferPointer<Scalar> {
    try output.withMutableElements(as: Scalar.self) { elements in
      UnsafeMutableBufferPointer(rebasing: elements[part.lowerBound * columns..<part.upperBound * columns])
    }
  }

  /// Lets go of the memory behind rows that have been written.
  func release(_ part: Range<Int>) {
    lossesOutput?.adviseDone(part.lowerBound * lossesColumns..<part.upperBound * lossesColumns)
    for (input, output) in gradientOutputs where input.isPerRow {
      output.adviseDone(part.lowerBound * input.columns..<part.upperBound * input.columns)
    }
  }

  func commit() throws {
    try TensorOutput.commit((lossesOutput.map { [$0] } ?? []) + gradientOutputs.map(\.output))
  }

  /// Leaves nothing behind; outputs that are not committed vanish by themselves.
  func abandon() {
    if let createdDirectory { rmdir(createdDirectory) }
  }
}
