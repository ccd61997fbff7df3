import BatchLossFormulas

/// Raw row-major memory behind every view: the currency inside the package, once arguments are checked.
///
/// Whether it may be written is decided by the view it came from: what comes from a ``MatrixView`` is read.
///
/// Unchecked because workers share it by design: each writes rows of its own.
struct RowMajor<Scalar: LossScalar>: @unchecked Sendable {
  let base: UnsafeMutablePointer<Scalar>
  let rows: Int
  let columns: Int
  /// Elements from one row to the next, at least `columns`.
  let stride: Int

  var count: Int { rows * columns }
  var isContiguous: Bool { stride == columns || rows <= 1 }

  func pointer(_ row: Int, _ column: Int) -> UnsafeMutablePointer<Scalar> { base + (row * stride + column) }

  /// Some of the rows.
  subscript(rows: Range<Int>) -> Self {
    Self(base: pointer(rows.lowerBound, 0), rows: rows.count, columns: columns, stride: stride)
  }
}

extension RowMajor {
  /// Checks that `rows` × `columns` with `stride` fits into `available` elements.
  static func validate(
    rows: Int, columns: Int, stride: Int, available: Int, parameter: String
  ) throws(BatchLossError) {
    func fail(_ expected: String, _ actual: String) -> BatchLossError {
      BatchLossError(.invalidShape, parameter: parameter, expected: expected, actual: actual)
    }
    guard rows >= 0 else { throw fail("rows ≥ 0", "\(rows)") }
    guard columns >= 0 else { throw fail("columns ≥ 0", "\(columns)") }
    guard stride >= columns else { throw fail("a row stride ≥ \(columns) columns", "\(stride)") }
    guard rows > 0, columns > 0 else { return }
    let (before, overflow) = (rows - 1).multipliedReportingOverflow(by: stride)
    let (needed, overflows) = before.addingReportingOverflow(columns)
    guard !overflow, !overflows else {
      throw fail("rows × stride to fit in an Int", "\(rows) × \(stride)")
    }
    guard needed <= available else {
      throw fail("\(needed) elements for \(rows)×\(columns) with stride \(stride)", "\(available)")
    }
  }
}

// MARK: - Use inside the package

extension RowMajor {
  var shape: (rows: Int, columns: Int) { (rows, columns) }

  func requireShape(
    _ shape: (rows: Int, columns: Int), _ parameter: String, or alternative: String? = nil
  ) throws(BatchLossError) {
    guard rows == shape.rows, columns == shape.columns else {
      let expected = "\(shape.rows)×\(shape.columns)" + (alternative.map { " or \($0)" } ?? "")
      throw BatchLossError(
        .invalidShape, parameter: parameter, expected: expected, actual: "\(rows)×\(columns)")
    }
  }
}

extension RowMajor {
  /// Sets every element, the gaps between rows left alone.
  func fill(_ value: Scalar) {
    // In generic code an update goes element by element through the type's witnesses.
    func fill<Concrete: LossScalar>(_ value: Concrete) {
      let base = UnsafeMutableRawPointer(base).assumingMemoryBound(to: Concrete.self)
      for row in 0..<rows { (base + row * stride).update(repeating: value, count: columns) }
    }
    if let value = value as? Float { fill(value) } else if let value = value as? Double { fill(value) }
  }
}

/// A divisor given by the caller must be one that a division can use.
func validateDenominator(_ denominator: Double?) throws(BatchLossError) {
  guard let denominator else { return }
  guard denominator.isFinite, denominator > 0 else {
    throw BatchLossError(
      .invalidParameter, parameter: "denominator", expected: "a finite number > 0", actual: "\(denominator)")
  }
}
