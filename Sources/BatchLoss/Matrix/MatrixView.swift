import BatchLossFormulas

/// A borrowed row-major matrix: `rows` × `columns` elements, row `i` starting at `i * stride`.
///
/// Views never copy. They come from arrays, spans and raw memory, and the compiler keeps them from
/// outliving what they look at.
///
/// ```swift
/// let cost = try SoftmaxCrossEntropy().evaluate(logits.matrix(columns: 1000), targets: labels.span)
/// ```
public struct MatrixView<Scalar: LossScalar>: ~Escapable {
  let memory: RowMajor<Scalar>

  /// The number of rows.
  public var rows: Int { memory.rows }
  /// The number of columns.
  public var columns: Int { memory.columns }
  /// Elements from the start of one row to the start of the next.
  public var stride: Int { memory.stride }

  @_lifetime(immortal)
  init(memory: RowMajor<Scalar>) { self.memory = memory }

  /// A view of memory owned by somebody else, which must stay valid and unchanged while the view is used.
  /// - Throws: ``BatchLossError`` when the shape does not fit the buffer.
  @_lifetime(borrow elements)
  public init(
    unsafeElements elements: UnsafeBufferPointer<Scalar>, rows: Int, columns: Int, stride: Int? = nil
  ) throws(BatchLossError) {
    try RowMajor<Scalar>.validate(
      rows: rows, columns: columns, stride: stride ?? columns, available: elements.count, parameter: "elements")
    memory = RowMajor(
      base: elements.baseAddress.map { UnsafeMutablePointer(mutating: $0) } ?? placeholder(Scalar.self),
      rows: rows, columns: columns, stride: stride ?? columns)
  }

  /// A view of the elements of a span.
  /// - Throws: ``BatchLossError`` when the shape does not fit the span.
  @_lifetime(copy elements)
  public init(_ elements: Span<Scalar>, rows: Int, columns: Int, stride: Int? = nil) throws(BatchLossError) {
    let buffer = unsafe elements.withUnsafeBufferPointer { unsafe $0 }
    let view = try MatrixView(unsafeElements: buffer, rows: rows, columns: columns, stride: stride)
    self = _overrideLifetime(view, copying: elements)
  }

  /// The element at a row and a column; both must be in range.
  public subscript(row: Int, column: Int) -> Scalar {
    precondition(row >= 0 && row < rows && column >= 0 && column < columns, "index out of range")
    return memory.base[row * stride + column]
  }

  /// The elements of a row, which must be in range.
  @_lifetime(copy self)
  public func row(_ row: Int) -> Span<Scalar> {
    precondition(row >= 0 && row < rows, "index out of range")
    let elements = UnsafeBufferPointer(start: memory.base + row * stride, count: columns)
    let span = unsafe Span(_unsafeElements: elements)
    return _overrideLifetime(span, copying: self)
  }
}

/// An address for empty matrices, which is never read.
func placeholder<T>(_: T.Type) -> UnsafeMutablePointer<T> {
  UnsafeMutablePointer(bitPattern: MemoryLayout<T>.alignment)!
}

extension Span where Element: LossScalar {
  /// The elements as rows of `columns`; the number of rows follows from the count.
  /// - Throws: ``BatchLossError`` when the count is not a multiple of `columns`.
  @_lifetime(copy self)
  public func matrix(columns: Int) throws(BatchLossError) -> MatrixView<Element> {
    let rows = try rowCount(of: count, columns: columns)
    return try MatrixView(self, rows: rows, columns: columns)
  }
}

extension Array where Element: LossScalar {
  /// The elements as rows of `columns`; the number of rows follows from the count.
  /// - Throws: ``BatchLossError`` when the count is not a multiple of `columns`.
  @_lifetime(borrow self)
  public func matrix(columns: Int) throws(BatchLossError) -> MatrixView<Element> {
    let rows = try rowCount(of: count, columns: columns)
    let view = try MatrixView(span, rows: rows, columns: columns)
    // Said once more: through the throwing call alone the optimiser let go of an array after its last mention.
    return _overrideLifetime(view, borrowing: self)
  }
}

/// The rows that `count` elements make.
func rowCount(of count: Int, columns: Int) throws(BatchLossError) -> Int {
  guard columns >= 0 else {
    throw BatchLossError(
      .invalidShape, parameter: "columns", expected: "a number ≥ 0", actual: "\(columns)")
  }
  guard columns > 0 else {
    guard count == 0 else {
      throw BatchLossError(
        .invalidShape, parameter: "columns", expected: "a divisor of \(count) elements", actual: "0")
    }
    return 0
  }
  guard count % columns == 0 else {
    throw BatchLossError(
      .invalidShape, parameter: "columns", expected: "a divisor of \(count) elements", actual: "\(columns)")
  }
  return count / columns
}
