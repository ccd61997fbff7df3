extension TensorOutput {
  /// Writes an array to a `.npy` file, which appears when it is complete.
  ///
  /// - Parameters:
  ///   - elements: The elements in row-major order.
  ///   - shape: The extents, outermost first; without it the array is a vector.
  ///   - path: The path, which ends in `.npy`.
  /// - Throws: ``TensorFileError/Code/invalidShape`` if the shape does not hold as many elements, and the
  ///   errors of ``init(creating:elementType:shape:)`` and ``commit()``.
  public static func write<T: TensorElement>(
    _ elements: [T], shape: [Int]? = nil, to path: String
  ) throws {
    try elements.withUnsafeBufferPointer { try write($0, shape: shape, to: path) }
  }

  /// Writes memory in the same way.
  package static func write<T: TensorElement>(
    _ elements: UnsafeBufferPointer<T>, shape: [Int]? = nil, to path: String
  ) throws {
    let output = try TensorOutput(
      creating: path, elementType: T.tensorElementType, shape: shape ?? [elements.count])
    guard output.elementCount == elements.count else {
      throw output.error(
        .invalidShape,
        "expected \(output.elementCount) elements for shape \(output.shape.shortDescription), "
          + "found \(elements.count)")
    }
    try output.withMutableElements(as: T.self) { _ = $0.update(fromContentsOf: elements) }
    try output.commit()
  }
}
