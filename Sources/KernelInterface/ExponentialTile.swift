/// What a row or a column adds up over its pairs.
package struct ExponentialSums: BitwiseCopyable {
  /// Σ e^(a·s − shift).
  package var sum = 0.0
  /// Σ e^(a·s − shift)·s.
  package var product = 0.0

  package init() {}
}

/// A tile of similarities s to be turned into e^(a·s − shift), a·s being at most a little above the shift.
package struct ExponentialTile<Scalar: KernelScalar> {
  /// `rows` × `columns`.
  package var values: UnsafePointer<Scalar>
  /// Where they go; may be `values`.
  package var output: UnsafeMutablePointer<Scalar>
  /// Of both.
  package var stride: Int
  /// Whether stores bypass the cache; then rows of the output begin at multiples of 64 bytes.
  package var streams: Bool
  package var rows: Int
  package var columns: Int
  package var a: Scalar
  package var shift: Scalar
  /// Each row's are added to.
  package var rowSums: UnsafeMutablePointer<ExponentialSums>?
  /// Both or none: each column's += e and += e·s.
  package var columnSums: UnsafeMutablePointer<Scalar>?
  package var columnProducts: UnsafeMutablePointer<Scalar>?

  package init(
    values: UnsafePointer<Scalar>, output: UnsafeMutablePointer<Scalar>, stride: Int, streams: Bool = false,
    rows: Int,
    columns: Int, a: Scalar, shift: Scalar, rowSums: UnsafeMutablePointer<ExponentialSums>?,
    columnSums: UnsafeMutablePointer<Scalar>? = nil, columnProducts: UnsafeMutablePointer<Scalar>? = nil
  ) {
    self.values = values
    self.output = output
    self.stride = stride
    self.streams = streams
    self.rows = rows
    self.columns = columns
    self.a = a
    self.shift = shift
    self.rowSums = rowSums
    self.columnSums = columnSums
    self.columnProducts = columnProducts
  }
}
