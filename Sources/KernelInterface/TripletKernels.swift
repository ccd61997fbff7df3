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
  /// Out.
  package var sum = 0.0
  package var active = 0

  package init(
    form: TripletForm, anchors: UnsafePointer<Scalar>, anchorStride: Int, positives: UnsafePointer<Scalar>,
    positiveStride: Int, negatives: UnsafePointer<Scalar>, negativeStride: Int, count: Int, columns: Int
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
  }
}

/// One anchor's row of distances to a labelled batch.
package struct TripletRow<Scalar: KernelScalar> {
  package var distances: UnsafeMutablePointer<Scalar>
  package var labels: UnsafePointer<Scalar>
  package var label: Scalar
  package var count: Int
  /// The anchor's own column.
  package var anchor: Int
  /// d(a, p) + margin of the positives in the order of their columns, and in ascending order.
  package var thresholds: UnsafeMutablePointer<Scalar>
  /// There is room for 64 more of the latter.
  package var sorted: UnsafeMutablePointer<Scalar>
  /// Room for a number for every 64 positives, and 32 more.
  package var pivots: UnsafeMutablePointer<Scalar>
  package var positives: Int
  /// Out: ∂/∂d of every column. In between scratch.
  package var weights: UnsafeMutablePointer<Scalar>
  /// 4·(positives + 1) numbers, aligned to 32 bytes.
  package var sums: UnsafeMutablePointer<Double>

  package init(
    distances: UnsafeMutablePointer<Scalar>, labels: UnsafePointer<Scalar>, label: Scalar, count: Int,
    anchor: Int, thresholds: UnsafeMutablePointer<Scalar>, sorted: UnsafeMutablePointer<Scalar>,
    pivots: UnsafeMutablePointer<Scalar>, positives: Int,
    weights: UnsafeMutablePointer<Scalar>, sums: UnsafeMutablePointer<Double>
  ) {
    self.distances = distances
    self.labels = labels
    self.label = label
    self.count = count
    self.anchor = anchor
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
  /// The farthest positive and the nearest negative, lowest index first; −1 where there is none.
  package typealias Hardest =
    @Sendable (
      _ distances: UnsafePointer<Scalar>, _ labels: UnsafePointer<Scalar>, _ label: Scalar, _ count: Int,
      _ anchor: Int
    ) -> (positive: Int, negative: Int)
  /// The thresholds of the positives in the order of their columns. Returns how many.
  package typealias Thresholds = @Sendable (_ row: TripletRow<Scalar>, _ margin: Scalar) -> Int
  /// All triplets of an anchor; `weights` receives ∂/∂d.
  package typealias Row =
    @Sendable (_ row: TripletRow<Scalar>, _ shape: TripletShape) -> (
      loss: Double, active: Int
    )

  package typealias SemiHard =
    @Sendable (
      _ row: TripletRow<Scalar>, _ shape: TripletShape, _ margin: Double
    ) -> (loss: Double, active: Int)

  package let given: Given
  package let terms: Terms
  package let hardest: Hardest
  package let thresholds: Thresholds
  /// Every positive with every negative; for few positives.
  package let everyPair: Row
  /// By ranks among the sorted thresholds; hinge and squared hinge.
  package let ranked: Row
  /// The nearest negative beyond each positive, or else the farthest; thresholds are without the margin.
  package let semiHard: SemiHard

  package init(
    given: @escaping Given, terms: @escaping Terms, hardest: @escaping Hardest,
    thresholds: @escaping Thresholds, everyPair: @escaping Row, ranked: @escaping Row,
    semiHard: @escaping SemiHard
  ) {
    self.given = given
    self.terms = terms
    self.hardest = hardest
    self.thresholds = thresholds
    self.everyPair = everyPair
    self.ranked = ranked
    self.semiHard = semiHard
  }
}
