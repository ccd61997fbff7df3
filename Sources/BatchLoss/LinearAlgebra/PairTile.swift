import BatchLossKernelInterface

/// Inner products or distances of a block of rows with a block of others.
struct PairTile<Scalar: LossScalar> {
  let queries: PackedRows<Scalar>
  let keys: PackedRows<Scalar>
  /// `nil` for inner products.
  let distance: EmbeddingDistance?
  let kernels: KernelTable<Scalar>

  /// Columns of one product: 256 × 512 floats fill half of a second-level cache of 1 MiB.
  static var columnsPerProduct: Int { 512 }

  /// Fills `output`, one row of `stride` elements for each of `rows`, all columns of `columns`.
  ///
  /// Products are taken `columnsPerProduct` columns at a time and turned into distances while they are in the
  /// cache. A difference that cancels is computed again from the rows themselves, so that the relative error
  /// stays small and identical rows are at 0 exactly. `cancelled` has room for `columnsPerProduct` numbers.
  func fill(
    rows: Range<Int>, columns: Range<Int>, _ output: UnsafeMutablePointer<Scalar>, stride: Int,
    cancelled: UnsafeMutablePointer<Int32>
  ) {
    var start = columns.lowerBound
    while start < columns.upperBound {
      let end = min(start + Self.columnsPerProduct, columns.upperBound)
      let tile = output + (start - columns.lowerBound)
      keys.multiply(
        queries.factor(rows.lowerBound), start..<end,
        to: RowMajor(base: tile, rows: rows.count, columns: end - start, stride: stride), kernels)
      if let distance {
        for row in rows {
          measure(
            row, start..<end, tile + (row - rows.lowerBound) * stride, distance, cancelled: cancelled)
        }
      }
      start = end
    }
  }

  /// The same for a square on the diagonal of a matrix of rows paired with themselves, of which one quarter is another's
  /// mirror image. Whole vectors of rows of `output` are read, and one beyond the end of a row; `scratch` is that of a
  /// ``TileTransfer``.
  func fillDiagonal(
    _ rows: Range<Int>, _ output: UnsafeMutablePointer<Scalar>, stride: Int,
    cancelled: UnsafeMutablePointer<Int32>, scratch: UnsafeMutablePointer<Scalar>
  ) {
    // Whole panels of keys, if there are several.
    let panel = ProductKernels<Scalar>.panelAlignment
    let panels = ((rows.count + 1) / 2 + panel - 1) / panel * panel
    let half = panels < rows.count ? panels : (rows.count + 1) / 2
    let middle = rows.lowerBound + half
    let (upper, lower) = (rows.lowerBound..<middle, middle..<rows.upperBound)
    fill(rows: upper, columns: rows, output, stride: stride, cancelled: cancelled)
    fill(rows: lower, columns: lower, output + half * (stride + 1), stride: stride, cancelled: cancelled)
    kernels.distances.transfer(
      TileTransfer(
        tile: UnsafePointer(output + half), stride: stride, rows: upper.count, columns: lower.count,
        output: output + half * stride, outputStride: stride, isTransposed: true, streams: false,
        scratch: scratch))
  }

  private func measure(
    _ row: Int, _ columns: Range<Int>, _ values: UnsafeMutablePointer<Scalar>, _ distance: EmbeddingDistance,
    cancelled: UnsafeMutablePointer<Int32>
  ) {
    let count = kernels.distances.fromProducts(
      values, UnsafePointer(keys.squaredNorms + columns.lowerBound), queries.squaredNorms[row], columns.count,
      distance.form, cancelled)
    for index in 0..<count {
      let column = Int(cancelled[index])
      values[column] = exact(row, columns.lowerBound + column, distance)
    }
  }

  /// The distance of two rows from their difference.
  func exact(_ row: Int, _ column: Int, _ distance: EmbeddingDistance) -> Scalar {
    let square = squaredDifference(row, column)
    switch distance {
    case .squaredEuclidean: return Scalar(square)
    case .euclidean: return Scalar(square.squareRoot())
    case .cosine: return Scalar(0.5 * square)
    }
  }

  /// ‖x − y‖² of rows as they came; for cosine distances of rows of length 1, and 2 where one is of zeros.
  func squaredDifference(_ row: Int, _ column: Int) -> Double {
    if distance == .cosine && (queries.inverseNorms[row] == 0 || keys.inverseNorms[column] == 0) { return 2 }
    let (x, y) =
      distance == .cosine
      ? (queries.pointer(row), keys.pointer(column))
      : (queries.source.pointer(row, 0), keys.source.pointer(column, 0))
    return kernels.rows.squaredDistance(UnsafePointer(x), UnsafePointer(y), queries.columns)
  }
}
