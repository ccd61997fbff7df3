import BatchLossCBLAS
import BatchLossFormulas

/// One operand of a product: a block of a row-major matrix, or its transpose.
package struct Factor<Scalar: LossScalar> {
  let base: UnsafePointer<Scalar>
  let stride: Int
  let isTransposed: Bool

  package init(_ base: UnsafePointer<Scalar>, stride: Int, transposed: Bool = false) {
    self.base = base
    self.stride = stride
    isTransposed = transposed
  }

  /// Of a left factor, without what is summed over before.
  func advanced(alongDepth offset: Int) -> Self {
    Self(base + (isTransposed ? offset * stride : offset), stride: stride, transposed: isTransposed)
  }
}

/// Matrix products on the calling thread.
package enum MatrixProduct {
  /// The largest dimension or stride that BLAS takes.
  static let largestDimension = Int(Int32.max)

  /// result = left·right + (adds ? result : 0), a `rows` × `columns` block; `depth` is what is summed over.
  static func run<Scalar: LossScalar>(
    rows: Int, columns: Int, depth: Int, _ left: Factor<Scalar>, _ right: Factor<Scalar>, adds: Bool,
    _ result: UnsafeMutablePointer<Scalar>, stride: Int
  ) {
    guard rows > 0, columns > 0 else { return }
    guard depth > 0 else {
      if !adds { for row in 0..<rows { (result + row * stride).update(repeating: 0, count: columns) } }
      return
    }
    _ = OpenBLAS.isPrepared
    let (m, n, k) = (Int32(rows), Int32(columns), Int32(depth))
    let (lda, ldb, ldc) = (Int32(left.stride), Int32(right.stride), Int32(stride))
    let transposes = (
      left.isTransposed ? CblasTrans : CblasNoTrans, right.isTransposed ? CblasTrans : CblasNoTrans
    )
    if Scalar.self == Float.self {
      cblas_sgemm(
        CblasRowMajor, transposes.0, transposes.1, m, n, k, 1, cast(left.base), lda, cast(right.base), ldb,
        adds ? 1 : 0, cast(result), ldc)
    } else {
      cblas_dgemm(
        CblasRowMajor, transposes.0, transposes.1, m, n, k, 1, cast(left.base), lda, cast(right.base), ldb,
        adds ? 1 : 0, cast(result), ldc)
    }
  }

  /// The product of two factors that are not transposed, as ``run(rows:columns:depth:_:_:adds:_:stride:)`` has it but in
  /// its own order of additions: in parts so small that OpenBLAS copies neither factor, if it can do that here.
  ///
  /// In one call it copies both and sets the result to 0 before it adds to it, which together take a tenth of the time
  /// of a product of 256 × 256 over 128.
  ///
  /// - Parameter part: Rows and columns of a part; `nil` for one call.
  package static func runByParts<Scalar: LossScalar>(
    of part: (rows: Int, columns: Int)?, rows: Int, columns: Int, depth: Int, _ left: Factor<Scalar>,
    _ right: Factor<Scalar>, _ result: UnsafeMutablePointer<Scalar>, stride: Int
  ) {
    assert(!left.isTransposed && !right.isTransposed)
    let (rowParts, columnParts) = (
      BlockPartition(of: rows, blockSize: part?.rows ?? max(1, rows)),
      BlockPartition(of: columns, blockSize: part?.columns ?? max(1, columns))
    )
    for rowPart in 0..<rowParts.blocks {
      let (first, count) = (rowParts[rowPart].lowerBound, rowParts[rowPart].count)
      for columnPart in 0..<columnParts.blocks {
        let columns = columnParts[columnPart]
        run(
          rows: count, columns: columns.count, depth: depth,
          Factor(left.base + first * left.stride, stride: left.stride),
          Factor(right.base + columns.lowerBound, stride: right.stride), adds: false,
          result + (first * stride + columns.lowerBound), stride: stride)
      }
    }
  }

  /// Checks that the shape of a matrix fits into the integers of BLAS.
  static func validate<Scalar>(_ matrix: RowMajor<Scalar>, _ parameter: String) throws(BatchLossError) {
    guard max(matrix.rows, matrix.stride) <= largestDimension else {
      throw BatchLossError(
        .invalidShape, parameter: parameter, expected: "rows and row stride below 2³¹",
        actual: "\(matrix.rows) and \(matrix.stride)")
    }
  }

  private static func cast<Scalar, Concrete>(_ pointer: UnsafePointer<Scalar>) -> UnsafePointer<Concrete> {
    UnsafeRawPointer(pointer).assumingMemoryBound(to: Concrete.self)
  }

  private static func cast<Scalar, Concrete>(
    _ pointer: UnsafeMutablePointer<Scalar>
  ) -> UnsafeMutablePointer<Concrete> {
    UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: Concrete.self)
  }
}
