import BatchLoss
import BatchLossTensorFiles

/// An opened input and how the loss reads it.
package struct Input {
  package let role: Role
  package let kind: RoleUse.Kind
  package let tensor: MappedTensor
  /// Rows of the batch, or 1 for what belongs to the batch as a whole.
  package let rows: Int
  package let columns: Int

  package init(_ use: RoleUse, _ reference: String, entry: LossEntry? = nil) throws {
    role = use.role
    tensor = try MappedTensor(opening: reference)
    let shape = tensor.shape
    kind = try Self.kind(of: tensor, use)
    switch kind {
    case .integers:
      (rows, columns) = (1, shape.reduce(1, *))
    case .table:
      guard shape.count == 2 else { throw Self.shapeError(use.role, "two dimensions", shape) }
      (rows, columns) = (shape[0], shape[1])
    case .classVector:
      guard shape.count == 1 else { throw Self.shapeError(use.role, "one dimension, a number a class", shape) }
      (rows, columns) = (1, shape[0])
    case .sampleVector:
      guard shape.count == 1 else { throw Self.shapeError(use.role, "one dimension, a number a sample", shape) }
      (rows, columns) = (shape[0], 1)
    case .labels, .rowVector:
      (rows, columns) = (shape.reduce(1, *), 1)
    case .matrix:
      if entry?.sample == .element, shape.count < 2 {
        (rows, columns) = (shape.first ?? 1, 1)
      } else {
        guard let last = shape.last, shape.count >= 2 else {
          throw Self.shapeError(use.role, "two dimensions, a row a sample", shape)
        }
        (rows, columns) = (shape.dropLast().reduce(1, *), last)
      }
    }
  }

  /// Of the kinds that a role may have, the one that fits the type and the shape of a tensor.
  private static func kind(of tensor: MappedTensor, _ use: RoleUse) throws -> RoleUse.Kind {
    if use.kinds.contains(.integers), tensor.elementType.isFloatingPoint {
      throw UsageError("\(use.role.rawValue): expected integers, got \(tensor.elementType) elements")
    }
    if use.kinds.contains(.labels) {
      if !tensor.elementType.isFloatingPoint { return .labels }
      guard use.kinds.contains(.matrix), tensor.shape.count >= 2 else {
        throw UsageError("\(use.role.rawValue): expected integers, got \(tensor.elementType) elements")
      }
      return .matrix
    }
    return use.kinds[0]
  }

  private static func shapeError(_ role: Role, _ expected: String, _ shape: [Int]) -> UsageError {
    UsageError("\(role.rawValue): expected \(expected), got shape \(shape)")
  }

  /// Whether the tensor is read a row of the batch a row.
  package var isPerRow: Bool {
    switch kind {
    case .matrix, .rowVector, .labels: true
    case .sampleVector, .classVector, .table, .integers: false
    }
  }

  /// Whether the input is read as integers.
  package var isIntegral: Bool { kind == .labels || kind == .integers }
}

/// A block of rows of an input as `Scalar`: in place where the file allows, else widened into a buffer of its own.
package final class RowReader<Scalar: LossScalar & TensorElement> {
  private let input: Input
  private let mapped: UnsafePointer<Scalar>?
  private var buffer: UnsafeMutableBufferPointer<Scalar>?

  package init(_ input: Input) {
    self.input = input
    // The tensor is kept by `input`, so its map outlives this pointer.
    mapped = try? input.tensor.withElements(as: Scalar.self) { $0.baseAddress }
  }

  /// Rows in memory that stay valid until the next call.
  package func rows(_ range: Range<Int>) throws -> Rows<Scalar> {
    let count = range.count * input.columns
    let offset = range.lowerBound * input.columns
    if let mapped {
      let elements = UnsafeBufferPointer(start: mapped + offset, count: count)
      return Rows(elements: elements, rows: range.count, columns: input.columns)
    }
    if buffer == nil || buffer!.count < count {
      buffer?.deallocate()
      buffer = .allocate(capacity: max(count, 1))
    }
    let destination = UnsafeMutableBufferPointer(rebasing: buffer![..<count])
    if count > 0 { try read(into: destination, from: offset) }
    return Rows(elements: UnsafeBufferPointer(destination), rows: range.count, columns: input.columns)
  }

  private func read(into destination: UnsafeMutableBufferPointer<Scalar>, from offset: Int) throws {
    if Scalar.self == Float.self {
      try input.tensor.read(
        into: UnsafeMutableRawBufferPointer(destination).bindMemory(to: Float.self), from: offset)
    } else {
      try input.tensor.read(
        into: UnsafeMutableRawBufferPointer(destination).bindMemory(to: Double.self), from: offset)
    }
  }

  deinit { buffer?.deallocate() }
}
