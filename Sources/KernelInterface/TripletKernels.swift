/// What a triplet costs at u = d(a, p) − d(a, n) + margin.
package enum TripletShape: Sendable {
  /// max(0, u).
  case hinge
  /// max(0, u)².
  case squaredHinge
  /// log(1 + eᵘ).
  case softplus
}

/// How triplets are measured.
package struct TripletForm: Sendable {
  package var shape: TripletShape
  package var margin: Double
  /// Whether d(p, n) replaces d(a, n) where it is smaller.
  package var swaps: Bool
  package var distance: PairDistanceForm

  package init(shape: TripletShape, margin: Double, swaps: Bool, distance: PairDistanceForm) {
    self.shape = shape
    self.margin = margin
    self.swaps = swaps
    self.distance = distance
  }
}

/// The loss of one triplet and what its gradient is made of.
package struct TripletTerms: Sendable {
  package var loss: Double
  package var isActive: Bool
  /// Whether the negative is measured from the positive.
  package var isSwapped: Bool
  /// ∂ℓ/∂a = positiveDifference·(a − p) + anchorOwn·a, ∂ℓ/∂p = positiveDifference·(p − a) + positiveOwn·p.
  package var positiveDifference: Double
  package var anchorOwn: Double
  package var positiveOwn: Double
  /// The same for the negative n and the row b it is measured from.
  package var negativeDifference: Double
  package var baseOwn: Double
  package var negativeOwn: Double

  package init(
    loss: Double, isActive: Bool, isSwapped: Bool, positiveDifference: Double, anchorOwn: Double,
    positiveOwn: Double, negativeDifference: Double, baseOwn: Double, negativeOwn: Double
  ) {
    self.loss = loss
    self.isActive = isActive
    self.isSwapped = isSwapped
    self.positiveDifference = positiveDifference
    self.anchorOwn = anchorOwn
    self.positiveOwn = positiveOwn
    self.negativeDifference = negativeDifference
    self.baseOwn = baseOwn
    self.negativeOwn = negativeOwn
  }
}

/// Given triplets; pointers are to the first of `count` rows.
package struct TripletArguments<Scalar: KernelScalar> {
  package typealias Output = (base: UnsafeMutablePointer<Scalar>, stride: Int)
  package var form: TripletForm
  package var anchors: UnsafePointer<Scalar>
  package var anchorStride: Int
  package var positives: UnsafePointer<Scalar>
  package var positiveStride: Int
  package var negatives: UnsafePointer<Scalar>
  package var negativeStride: Int
  package var count: Int
  package var columns: Int
  package var weights: UnsafePointer<Scalar>?
  package var anchorGradient: Output?
  package var positiveGradient: Output?
  package var negativeGradient: Output?
  package var losses: UnsafeMutablePointer<Scalar>?
  package var gradientScale = 0.0
  package var streams = false
  /// Scratch: 6 numbers for each row.
  package var slopes: UnsafeMutablePointer<Double>
  /// Out.
  package var sum = 0.0
  package var active = 0

  package init(
    form: TripletForm, anchors: UnsafePointer<Scalar>, anchorStride: Int, positives: UnsafePointer<Scalar>,
    positiveStride: Int, negatives: UnsafePointer<Scalar>, negativeStride: Int, count: Int, columns: Int,
    slopes: UnsafeMutablePointer<Double>
  ) {
    self.form = form
    self.anchors = anchors
    self.anchorStride = anchorStride
    self.positives = positives
    self.positiveStride = positiveStride
    self.negatives = negatives
    self.negativeStride = negativeStride
    self.count = count
    self.columns = columns
    self.slopes = slopes
  }
}

/// The farthest positive and the nearest negative of some rows, and where they are: −1 where there is none.
package struct HardestExtremes<Scalar: KernelScalar> {
  package var far: UnsafeMutablePointer<Scalar>
  package var farAt: UnsafeMutablePointer<Scalar>
  package var near: UnsafeMutablePointer<Scalar>
  package var nearAt: UnsafeMutablePointer<Scalar>

  package init(
    far: UnsafeMutablePointer<Scalar>, farAt: UnsafeMutablePointer<Scalar>, near: UnsafeMutablePointer<Scalar>,
    nearAt: UnsafeMutablePointer<Scalar>
  ) {
    self.far = far
    self.farAt = farAt
    self.near = near
    self.nearAt = nearAt
  }
}

/// Distances between some rows of a labelled batch and others. A distance of NaN is no pair. The memory of a row is
/// readable for 16 elements beyond its last column, where any values may be.
package struct HardestTile<Scalar: KernelScalar> {
  package var distances: UnsafeMutablePointer<Scalar>
  package var stride: Int
  package var rows: Int
  package var columns: Int
  /// The rows that the first row and the first column of the tile are.
  package var firstRow: Int
  package var firstColumn: Int
  package var rowLabels: UnsafePointer<Scalar>
  package var columnLabels: UnsafePointer<Scalar>
  package var rowExtremes: HardestExtremes<Scalar>
  /// `nil` where the columns are not looked at.
  package var columnExtremes: HardestExtremes<Scalar>?

  package init(
    distances: UnsafeMutablePointer<Scalar>, stride: Int, rows: Int, columns: Int, firstRow: Int, firstColumn: Int,
    rowLabels: UnsafePointer<Scalar>, columnLabels: UnsafePointer<Scalar>, rowExtremes: HardestExtremes<Scalar>,
    columnExtremes: HardestExtremes<Scalar>?
  ) {
    self.distances = distances
    self.stride = stride
    self.rows = rows
    self.columns = columns
    self.firstRow = firstRow
    self.firstColumn = firstColumn
    self.rowLabels = rowLabels
    self.columnLabels = columnLabels
    self.rowExtremes = rowExtremes
    self.columnExtremes = columnExtremes
  }
}

/// One anchor's row of distances to a labelled batch.
package struct TripletRow<Scalar: KernelScalar> {
  package var distances: UnsafeMutablePointer<Scalar>
  package var labels: UnsafePointer<Scalar>
  package var label: Scalar
  package var count: Int
  /// The columns of the positives, ascending.
  package var positiveColumns: UnsafePointer<Int32>
  /// The anchor's own column.
  package var anchor: Int
  /// d(a, p) + margin of the positives in the order of their columns, and in ascending order. There is room for 64
  /// more of each.
  package var thresholds: UnsafeMutablePointer<Scalar>
  package var sorted: UnsafeMutablePointer<Scalar>
  /// Scratch of 64 numbers each.
  package var numbers: UnsafeMutablePointer<Scalar>
  package var counts: UnsafeMutablePointer<Scalar>
  /// Room for a number for every 64 positives, and 32 more.
  package var pivots: UnsafeMutablePointer<Scalar>
  package var positives: Int
  /// Out: ∂/∂d of every column.
  package var weights: UnsafeMutablePointer<Scalar>
  /// 4·(positives + 1) numbers, aligned to 32 bytes.
  package var sums: UnsafeMutablePointer<Double>

  package init(
    distances: UnsafeMutablePointer<Scalar>, labels: UnsafePointer<Scalar>, label: Scalar, count: Int,
    positiveColumns: UnsafePointer<Int32>, anchor: Int, thresholds: UnsafeMutablePointer<Scalar>,
    sorted: UnsafeMutablePointer<Scalar>, numbers: UnsafeMutablePointer<Scalar>,
    counts: UnsafeMutablePointer<Scalar>, pivots: UnsafeMutablePointer<Scalar>, positives: Int,
    weights: UnsafeMutablePointer<Scalar>, sums: UnsafeMutablePointer<Double>
  ) {
    self.distances = distances
    self.labels = labels
    self.label = label
    self.count = count
    self.positiveColumns = positiveColumns
    self.anchor = anchor
    self.numbers = numbers
    self.counts = counts
    self.thresholds = thresholds
    self.sorted = sorted
    self.pivots = pivots
    self.positives = positives
    self.weights = weights
    self.sums = sums
  }
}

/// Triplet losses.
package struct TripletKernels<Scalar: KernelScalar>: Sendable {
  package typealias Given = @Sendable (_ arguments: inout TripletArguments<Scalar>) -> Void
  package typealias Terms =
    @Sendable (
      _ form: TripletForm, _ anchor: UnsafePointer<Scalar>, _ positive: UnsafePointer<Scalar>,
      _ negative: UnsafePointer<Scalar>, _ columns: Int
    ) -> TripletTerms
  /// Updates the extremes of a tile's rows and columns; the lowest index wins among equals.
  package typealias Hardest = @Sendable (_ tile: HardestTile<Scalar>) -> Void
  /// Fills in the thresholds of the positives in the order of their columns.
  package typealias Thresholds = @Sendable (_ row: TripletRow<Scalar>, _ margin: Scalar) -> Void
  /// Sorts the thresholds where they are few and none is NaN; false, with nothing sorted, where that is not so.
  package typealias SortFew = @Sendable (_ row: TripletRow<Scalar>) -> Bool
  /// All triplets of an anchor; `weights` receives ∂/∂d.
  package typealias Row =
    @Sendable (_ row: TripletRow<Scalar>, _ shape: TripletShape) -> (
      loss: Double, active: Int
    )

  package typealias EveryPair = @Sendable (_ row: TripletRow<Scalar>) -> (loss: Double, active: Int)

  package typealias SemiHard =
    @Sendable (
      _ row: TripletRow<Scalar>, _ shape: TripletShape, _ margin: Double
    ) -> (loss: Double, active: Int)

  package let given: Given
  package let terms: Terms
  package let hardest: Hardest
  package let thresholds: Thresholds
  package let sortFew: SortFew
  /// Every positive with every negative, softplus.
  package let everyPair: EveryPair
  /// By ranks among the sorted thresholds; hinge and squared hinge.
  package let ranked: Row
  /// The nearest negative beyond each positive, or else the farthest; thresholds are without the margin.
  package let semiHard: SemiHard

  package init(
    given: @escaping Given, terms: @escaping Terms, hardest: @escaping Hardest,
    thresholds: @escaping Thresholds, sortFew: @escaping SortFew, everyPair: @escaping EveryPair,
    ranked: @escaping Row, semiHard: @escaping SemiHard
  ) {
    self.given = given
    self.terms = terms
    self.hardest = hardest
    self.thresholds = thresholds
    self.sortFew = sortFew
    self.everyPair = everyPair
    self.ranked = ranked
    self.semiHard = semiHard
  }
}
