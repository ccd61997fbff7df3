/// The partners of each of some rows that can be its best one by scores that are known but for a margin.
package struct ScreeningList {
  /// So many are kept for a row.
  package static var capacity: Int { 8 }

  /// The best score of each row, −∞ before the first; readable for a vector beyond the last.
  package var best: UnsafeMutablePointer<Float>
  /// How many partners are kept, −1 where there were more than fit.
  package var counts: UnsafeMutablePointer<Int32>
  /// ``capacity`` partners of each row, and their scores.
  package var partners: UnsafeMutablePointer<Int32>
  package var scores: UnsafeMutablePointer<Float>

  package init(
    best: UnsafeMutablePointer<Float>, counts: UnsafeMutablePointer<Int32>,
    partners: UnsafeMutablePointer<Int32>, scores: UnsafeMutablePointer<Float>
  ) {
    self.best = best
    self.counts = counts
    self.partners = partners
    self.scores = scores
  }

  /// The list from a row on.
  package func from(_ row: Int) -> ScreeningList {
    ScreeningList(
      best: best + row, counts: counts + row, partners: partners + Self.capacity * row,
      scores: scores + Self.capacity * row)
  }
}

/// Rows of a labelled batch against others, as 16-bit integers, two to an `Int32`. Scores of positives are their squared
/// distances, scores of negatives the same with their signs turned.
package struct ScreeningTile {
  /// Columns of a panel, which holds the first pair of integers of every column, then the second, and so on.
  package static var panelColumns: Int { 32 }

  package var rowPairs: UnsafePointer<Int32>
  /// From one row to the next; rows are readable to a multiple of 8.
  package var rowStride: Int
  package var panels: UnsafePointer<Int32>
  package var panelStride: Int
  package var pairs: Int
  package var rows: Int
  package var columns: Int
  package var firstRow: Int
  package var firstColumn: Int
  package var rowNorms: UnsafePointer<Float>
  package var rowLabels: UnsafePointer<Float>
  /// Of whole panels; ∞ and NaN beyond the last column.
  package var columnNorms: UnsafePointer<Float>
  package var columnLabels: UnsafePointer<Float>
  package var margin: Float
  package var rowPositives: ScreeningList
  package var rowNegatives: ScreeningList
  /// `nil` where rows and columns are the same.
  package var columnPositives: ScreeningList?
  package var columnNegatives: ScreeningList?
  /// Scratch: rows of whole panels, `stride` apart, as many as are a multiple of 8.
  package var squares: UnsafeMutablePointer<Float>
  package var stride: Int

  package init(
    rowPairs: UnsafePointer<Int32>, rowStride: Int, panels: UnsafePointer<Int32>, panelStride: Int, pairs: Int,
    rows: Int, columns: Int, firstRow: Int, firstColumn: Int, rowNorms: UnsafePointer<Float>,
    rowLabels: UnsafePointer<Float>, columnNorms: UnsafePointer<Float>, columnLabels: UnsafePointer<Float>,
    margin: Float, rowPositives: ScreeningList, rowNegatives: ScreeningList, columnPositives: ScreeningList?,
    columnNegatives: ScreeningList?, squares: UnsafeMutablePointer<Float>, stride: Int
  ) {
    self.rowPairs = rowPairs
    self.rowStride = rowStride
    self.panels = panels
    self.panelStride = panelStride
    self.pairs = pairs
    self.rows = rows
    self.columns = columns
    self.firstRow = firstRow
    self.firstColumn = firstColumn
    self.rowNorms = rowNorms
    self.rowLabels = rowLabels
    self.columnNorms = columnNorms
    self.columnLabels = columnLabels
    self.margin = margin
    self.rowPositives = rowPositives
    self.rowNegatives = rowNegatives
    self.columnPositives = columnPositives
    self.columnNegatives = columnNegatives
    self.squares = squares
    self.stride = stride
  }
}

/// The search for the hardest partners of rows by integers of 16 bits.
package struct ScreeningKernels<Scalar: KernelScalar>: Sendable {
  /// Rounds factor·x to integers, two to an `Int32`, zeros up to `pairs` pairs, a multiple of 8. Their magnitude must be
  /// below 32 768. Returns the sum of the squares of the rounding errors.
  package typealias Quantize =
    @Sendable (
      _ row: UnsafePointer<Scalar>, _ count: Int, _ factor: Scalar, _ output: UnsafeMutablePointer<Int32>,
      _ pairs: Int
    ) -> Double
  /// Sixteen rows of `pairs` pairs, a multiple of 16, into half a panel; `scratch` has room for 256 numbers.
  package typealias Pack =
    @Sendable (
      _ rows: UnsafePointer<Int32>, _ pairs: Int, _ panel: UnsafeMutablePointer<Int32>,
      _ scratch: UnsafeMutablePointer<Float>
    ) -> Void
  /// Updates the lists of a tile's rows and columns.
  package typealias Screen = @Sendable (ScreeningTile) -> Void

  package let quantize: Quantize
  package let pack: Pack
  package let screen: Screen

  package init(quantize: @escaping Quantize, pack: @escaping Pack, screen: @escaping Screen) {
    self.quantize = quantize
    self.pack = pack
    self.screen = screen
  }
}
