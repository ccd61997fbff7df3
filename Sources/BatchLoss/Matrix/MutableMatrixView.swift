import BatchLossFormulas

/// A borrowed row-major matrix that a call may write, and that nothing else can touch meanwhile.
public struct MutableMatrixView<Scalar: LossScalar>: ~Copyable, ~Escapable {
  let memory: RowMajor<Scalar>

  /// The number of rows.
  public var rows: Int { memory.rows }
  /// The number of columns.
  public var columns: Int { memory.columns }
  /// Elements from the start of one row to the start of the next.
  public var stride: Int { memory.stride }

  @_lifetime(immortal)
  init(memory: RowMajor<Scalar>) { self.memory = memory }

  /// A view of memory owned by somebody else, which nothing else may touch while the view is used.
  /// - Throws: ``BatchLossError`` when the shape does not fit the buffer.
  @_lifetime(borrow elements)
  public init(
    unsafeElements elements: UnsafeMutableBufferPointer<Scalar>, rows: Int, columns: Int, stride: Int? = nil
  ) throws(BatchLossError) {
    try RowMajor<Scalar>.validate(
      rows: rows, columns: columns, stride: stride ?? columns, available: elements.count, parameter: "elements")
    memory = RowMajor(
      base: elements.baseAddress ?? placeholder(Scalar.self), rows: rows,
      columns: columns, stride: stride ?? columns)
  }

  /// A view of the elements of a mutable span.
  /// - Throws: ``BatchLossError`` when the shape does not fit the span.
  @_lifetime(copy elements)
  public init(
    _ elements: consuming MutableSpan<Scalar>, rows: Int, columns: Int, stride: Int? = nil
  ) throws(BatchLossError) {
    let buffer = unsafe elements.withUnsafeMutableBufferPointer { unsafe $0 }
    let view = try MutableMatrixView(unsafeElements: buffer, rows: rows, columns: columns, stride: stride)
    self = _overrideLifetime(view, copying: elements)
  }

  /// A read-only view of the same elements, for as long as this one is borrowed.
  public var view: MatrixView<Scalar> {
    @_lifetime(borrow self)
    get {
      let view = MatrixView(
        memory: RowMajor(
          base: memory.base, rows: rows, columns: columns, stride: stride))
      return _overrideLifetime(view, borrowing: self)
    }
  }
}

extension MutableSpan where Element: LossScalar {
  /// The elements as rows of `columns`; the number of rows follows from the count.
  /// - Throws: ``BatchLossError`` when the count is not a multiple of `columns`.
  @_lifetime(copy self)
  public consuming func mutableMatrix(columns: Int) throws(BatchLossError) -> MutableMatrixView<Element> {
    let rows = try rowCount(of: count, columns: columns)
    return try MutableMatrixView(self, rows: rows, columns: columns)
  }
}

extension Array where Element: LossScalar {
  /// The elements as rows of `columns`; the number of rows follows from the count.
  /// - Throws: ``BatchLossError`` when the count is not a multiple of `columns`.
  @_lifetime(&self)
  public mutating func mutableMatrix(columns: Int) throws(BatchLossError) -> MutableMatrixView<Element> {
    let rows = try rowCount(of: count, columns: columns)
    return try MutableMatrixView(mutableSpan, rows: rows, columns: columns)
  }
}

/// The memory of an optional view.
func memory<Scalar: LossScalar>(of view: borrowing MutableMatrixView<Scalar>?) -> RowMajor<Scalar>? {
  switch view {
  case .some(let view): view.memory
  case .none: nil
  }
}
