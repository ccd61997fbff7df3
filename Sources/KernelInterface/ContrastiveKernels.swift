/// The loss of a pair at distance d, similar or not.
package struct ContrastiveForm: Sendable {
  /// Whether hinges are linear: max(0, d − positiveMargin) and max(0, margin − d); else ½d² and ½max(0, margin − d)².
  package var isLinear: Bool
  package var margin: Double
  package var positiveMargin: Double
  package var distance: PairDistanceForm

  package init(isLinear: Bool, margin: Double, positiveMargin: Double, distance: PairDistanceForm) {
    self.isLinear = isLinear
    self.margin = margin
    self.positiveMargin = positiveMargin
    self.distance = distance
  }
}

/// The distance between two given rows.
package enum PairDistanceForm: Sendable {
  case squared, root, cosine
}

/// Given pairs of rows; pointers are to the first of `count` rows.
package struct ContrastivePairsArguments<Scalar: KernelScalar> {
  package var form: ContrastiveForm
  package var first: UnsafePointer<Scalar>
  package var firstStride: Int
  package var second: UnsafePointer<Scalar>
  package var secondStride: Int
  package var count: Int
  package var columns: Int
  /// 1 for similar pairs, 0 for others.
  package var isSimilar: UnsafePointer<UInt8>
  package var weights: UnsafePointer<Scalar>?
  package var firstGradient: UnsafeMutablePointer<Scalar>?
  package var firstGradientStride = 0
  package var secondGradient: UnsafeMutablePointer<Scalar>?
  package var secondGradientStride = 0
  package var losses: UnsafeMutablePointer<Scalar>?
  package var gradientScale = 0.0
  package var streams = false
  /// Scratch: 3 numbers for each row.
  package var slopes: UnsafeMutablePointer<Double>
  /// Out.
  package var sum = 0.0
  package var active = 0

  package init(
    form: ContrastiveForm, first: UnsafePointer<Scalar>, firstStride: Int, second: UnsafePointer<Scalar>,
    secondStride: Int, count: Int, columns: Int, isSimilar: UnsafePointer<UInt8>,
    slopes: UnsafeMutablePointer<Double>
  ) {
    self.form = form
    self.first = first
    self.firstStride = firstStride
    self.second = second
    self.secondStride = secondStride
    self.count = count
    self.columns = columns
    self.isSimilar = isSimilar
    self.slopes = slopes
  }
}

/// What a row of a labelled batch adds up over its pairs.
package struct ContrastiveSums: BitwiseCopyable {
  package var loss = 0.0
  /// The sum of derivatives by squared distance.
  package var weight = 0.0
  /// How many losses are greater than 0, twice where a tile sums its columns too.
  package var active = 0

  package init() {}
}

/// A tile of distances of a labelled batch.
package struct ContrastiveTile<Scalar: KernelScalar> {
  package var form: ContrastiveForm
  /// Distances, of ``PairDistanceForm/root`` their squares; out: derivatives by squared distance. A row with itself is
  /// at distance 0.
  package var values: UnsafeMutablePointer<Scalar>
  package var stride: Int
  package var rows: Int
  package var columns: Int
  package var rowLabels: UnsafePointer<Scalar>
  package var columnLabels: UnsafePointer<Scalar>
  /// Each row's are added to.
  package var rowSums: UnsafeMutablePointer<ContrastiveSums>
  /// Both or none: each column's += derivative and += loss.
  package var columnWeights: UnsafeMutablePointer<Scalar>?
  package var columnLosses: UnsafeMutablePointer<Scalar>?

  package init(
    form: ContrastiveForm, values: UnsafeMutablePointer<Scalar>, stride: Int, rows: Int, columns: Int,
    rowLabels: UnsafePointer<Scalar>, columnLabels: UnsafePointer<Scalar>,
    rowSums: UnsafeMutablePointer<ContrastiveSums>, columnWeights: UnsafeMutablePointer<Scalar>?,
    columnLosses: UnsafeMutablePointer<Scalar>?
  ) {
    self.form = form
    self.values = values
    self.stride = stride
    self.rows = rows
    self.columns = columns
    self.rowLabels = rowLabels
    self.columnLabels = columnLabels
    self.rowSums = rowSums
    self.columnWeights = columnWeights
    self.columnLosses = columnLosses
  }
}

/// Contrastive losses.
package struct ContrastiveKernels<Scalar: KernelScalar>: Sendable {
  package typealias Pairs = @Sendable (_ arguments: inout ContrastivePairsArguments<Scalar>) -> Void
  package typealias Tile = @Sendable (_ tile: ContrastiveTile<Scalar>) -> Void

  package let pairs: Pairs
  package let tile: Tile

  package init(pairs: @escaping Pairs, tile: @escaping Tile) {
    self.pairs = pairs
    self.tile = tile
  }
}
