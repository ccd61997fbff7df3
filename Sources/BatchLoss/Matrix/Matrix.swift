import BatchLossFormulas

/// An owning row-major matrix, without gaps between rows.
///
/// Elements are contiguous and the first one is aligned to 64 bytes. Copies share memory until one of them
/// is written.
public struct Matrix<Scalar: LossScalar>: @unchecked Sendable {
  // Unchecked because the storage is a class; it is written only when uniquely referenced.
  private var storage: AlignedStorage<Scalar>
  /// The number of rows.
  public let rows: Int
  /// The number of columns.
  public let columns: Int

  /// A matrix in which every element is `value`.
  /// - Throws: ``BatchLossError`` when a dimension is negative or the product overflows.
  public init(rows: Int, columns: Int, repeating value: Scalar = 0) throws(BatchLossError) {
    try self.init(unfilledRows: rows, columns: columns)
    storage.base.initialize(repeating: value, count: rows * columns)
  }

  /// A matrix of the elements given row by row.
  /// - Throws: ``BatchLossError`` when the count is not `rows * columns`.
  public init(rows: Int, columns: Int, _ elements: [Scalar]) throws(BatchLossError) {
    try self.init(unfilledRows: rows, columns: columns)
    guard elements.count == rows * columns else {
      throw BatchLossError(
        .invalidShape, parameter: "elements", expected: "\(rows * columns) for \(rows)×\(columns)",
        actual: "\(elements.count)")
    }
    for (index, element) in elements.enumerated() { (storage.base + index).initialize(to: element) }
  }

  /// Memory of the right size that has not been written: every element must be before it is read.
  private init(unfilledRows rows: Int, columns: Int) throws(BatchLossError) {
    let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
    let (bytes, overflows) = count.multipliedReportingOverflow(by: MemoryLayout<Scalar>.stride)
    guard rows >= 0, columns >= 0, !overflow, !overflows else {
      throw BatchLossError(
        .invalidShape, parameter: "rows, columns", expected: "two numbers ≥ 0 whose product fits in memory",
        actual: "\(rows), \(columns)")
    }
    self.rows = rows
    self.columns = columns
    storage = AlignedStorage(bytes: bytes)
  }

  /// The element at a row and a column; both must be in range.
  public subscript(row: Int, column: Int) -> Scalar {
    get {
      precondition(row >= 0 && row < rows && column >= 0 && column < columns, "index out of range")
      return storage.base[row * columns + column]
    }
    set {
      precondition(row >= 0 && row < rows && column >= 0 && column < columns, "index out of range")
      makeUnique()
      storage.base[row * columns + column] = newValue
    }
  }

  /// A view of all elements.
  public var view: MatrixView<Scalar> {
    @_lifetime(borrow self)
    borrowing get {
      let view = MatrixView(
        memory: RowMajor(base: storage.base, rows: rows, columns: columns, stride: columns))
      return _overrideLifetime(view, borrowing: self)
    }
  }

  /// A view through which all elements may be written.
  public var mutableView: MutableMatrixView<Scalar> {
    @_lifetime(&self)
    mutating get {
      makeUnique()
      let view = MutableMatrixView(
        memory: RowMajor(base: storage.base, rows: rows, columns: columns, stride: columns))
      return _overrideLifetime(view, mutating: &self)
    }
  }

  /// The elements row by row.
  public var elements: [Scalar] {
    Array(UnsafeBufferPointer(start: storage.base, count: rows * columns))
  }

  private mutating func makeUnique() {
    guard !isKnownUniquelyReferenced(&storage) else { return }
    let copy = AlignedStorage<Scalar>(bytes: rows * columns * MemoryLayout<Scalar>.stride)
    copy.base.update(from: storage.base, count: rows * columns)
    storage = copy
  }
}

/// Memory of trivial elements aligned to 64 bytes.
private final class AlignedStorage<Element> {
  let base: UnsafeMutablePointer<Element>

  init(bytes: Int) {
    base = LargeMemory.allocate(byteCount: max(bytes, 64))
      .bindMemory(to: Element.self, capacity: max(bytes, 64) / MemoryLayout<Element>.stride)
  }

  deinit { UnsafeMutableRawPointer(base).deallocate() }
}

extension Matrix: Equatable {
  /// Whether shape and elements are equal; NaN equals nothing.
  public static func == (left: Matrix, right: Matrix) -> Bool {
    left.rows == right.rows && left.columns == right.columns && left.elements == right.elements
  }
}
