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

/// A row of distances against a labelled batch.
package struct ContrastiveRowArguments<Scalar: KernelScalar> {
  package var form: ContrastiveForm
  /// Distances; out: derivatives by squared distance.
  package var row: UnsafeMutablePointer<Scalar>
  package var labels: UnsafePointer<Scalar>
  package var label: Scalar
  package var count: Int
  /// Both or none: each column's += derivative and += loss.
  package var columnWeights: UnsafeMutablePointer<Scalar>?
  package var columnLosses: UnsafeMutablePointer<Scalar>?

  package init(
    form: ContrastiveForm, row: UnsafeMutablePointer<Scalar>, labels: UnsafePointer<Scalar>, label: Scalar,
    count: Int, columnWeights: UnsafeMutablePointer<Scalar>? = nil,
    columnLosses: UnsafeMutablePointer<Scalar>? = nil
  ) {
    self.form = form
    self.row = row
    self.labels = labels
    self.label = label
    self.count = count
    self.columnWeights = columnWeights
    self.columnLosses = columnLosses
  }
}

/// Contrastive losses.
package struct ContrastiveKernels<Scalar: KernelScalar>: Sendable {
  package typealias Pairs = @Sendable (_ arguments: inout ContrastivePairsArguments<Scalar>) -> Void
  /// Returns the sum of losses, the sum of derivatives and the number of losses greater than 0.
  package typealias Row =
    @Sendable (
      _ arguments: ContrastiveRowArguments<Scalar>
    ) -> (loss: Double, weightSum: Double, active: Int)

  package let pairs: Pairs
  package let row: Row

  package init(pairs: @escaping Pairs, row: @escaping Row) {
    self.pairs = pairs
    self.row = row
  }
}
