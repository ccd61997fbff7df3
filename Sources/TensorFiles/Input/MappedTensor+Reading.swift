import Glibc

extension MappedTensor {
  /// Copies elements into a buffer of `Float`, converting them on the way.
  ///
  /// Only the elements asked for are converted, so a large tensor is read block by block and never exists
  /// as a whole in the wider type. float16 and bfloat16 widen exactly, with subnormal numbers, infinities
  /// and NaNs; float64 and integers round to nearest, ties to even, and a float64 too large becomes an
  /// infinity; `bool` becomes 0 or 1.
  ///
  /// - Parameters:
  ///   - destination: Filled entirely. It need not be initialized.
  ///   - offset: The index of the first element, in row-major order.
  /// - Throws: ``TensorFileError/Code/outOfBounds`` if the tensor has no elements
  ///   `offset..<offset + destination.count`.
  public func read(
    into destination: UnsafeMutableBufferPointer<Float>, from offset: Int
  ) throws(TensorFileError) {
    try withElementBytes(offset, count: destination.count) { (source) throws(TensorFileError) in
      convert(elementType, at: source, into: destination)
    }
  }

  /// Copies elements into a buffer of `Double`, converting them on the way.
  ///
  /// As for `Float`. All types convert exactly, but for 64-bit integers beyond 2^53, which round to nearest,
  /// ties to even.
  ///
  /// - Parameters:
  ///   - destination: Filled entirely. It need not be initialized.
  ///   - offset: The index of the first element, in row-major order.
  /// - Throws: ``TensorFileError/Code/outOfBounds`` if the tensor has no elements
  ///   `offset..<offset + destination.count`.
  public func read(
    into destination: UnsafeMutableBufferPointer<Double>, from offset: Int
  ) throws(TensorFileError) {
    try withElementBytes(offset, count: destination.count) { (source) throws(TensorFileError) in
      convert(elementType, at: source, into: destination)
    }
  }

  /// Copies integers, labels for example, into a buffer of `Int32`.
  ///
  /// - Parameters:
  ///   - destination: Filled entirely, or up to the element that an error names. It need not be initialized.
  ///   - offset: The index of the first element, in row-major order.
  /// - Throws: ``TensorFileError/Code/elementTypeMismatch`` if the elements are floating-point numbers,
  ///   ``TensorFileError/Code/unrepresentable``, naming the index and the value, if one does not fit, and
  ///   ``TensorFileError/Code/outOfBounds`` if the tensor has no elements
  ///   `offset..<offset + destination.count`.
  public func read(
    into destination: UnsafeMutableBufferPointer<Int32>, from offset: Int
  ) throws(TensorFileError) {
    try readIntegers(into: destination, from: offset)
  }

  /// Copies integers, labels for example, into a buffer of `Int64`.
  ///
  /// - Parameters:
  ///   - destination: Filled entirely, or up to the element that an error names. It need not be initialized.
  ///   - offset: The index of the first element, in row-major order.
  /// - Throws: ``TensorFileError/Code/elementTypeMismatch`` if the elements are floating-point numbers,
  ///   ``TensorFileError/Code/unrepresentable``, naming the index and the value, if one does not fit, and
  ///   ``TensorFileError/Code/outOfBounds`` if the tensor has no elements
  ///   `offset..<offset + destination.count`.
  public func read(
    into destination: UnsafeMutableBufferPointer<Int64>, from offset: Int
  ) throws(TensorFileError) {
    try readIntegers(into: destination, from: offset)
  }

  private func readIntegers<D: FixedWidthInteger & TensorElement>(
    into destination: UnsafeMutableBufferPointer<D>, from offset: Int
  ) throws(TensorFileError) {
    guard !elementType.isFloatingPoint else {
      throw error(.elementTypeMismatch, "expected integers, found \(elementType) elements")
    }
    try withElementBytes(offset, count: destination.count) { (source) throws(TensorFileError) in
      if let misfit = convertExactly(elementType, at: source, into: destination) {
        throw error(
          .unrepresentable,
          "element \(offset + misfit.index) is \(misfit.value), which \(D.tensorElementType) cannot hold")
      }
    }
  }
}
