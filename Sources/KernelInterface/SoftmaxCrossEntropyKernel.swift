/// One block of rows of softmax cross-entropy. `nil` means not given; strides count elements.
///
/// With the weight s of a row, targets τₖ (weighted, smoothed) that add up to A and z the capped logits:
/// loss = s·(A·lse − Σ τₖ·zₖ + λ·lse²), gradientₖ = scale·s·((A + 2λ·lse)·pₖ − τₖ)·dzₖ/dxₖ.
package struct SoftmaxCrossEntropyArguments<Scalar: KernelScalar> {
  package var logits: UnsafePointer<Scalar>
  package var logitsStride: Int
  package var rows: Int
  package let columns: Int
  /// Elements of each segment of a row but the last, and how many segments there are: see ``SoftmaxPlan``.
  package let (segmentSize, segmentCount): (Int, Int)
  /// Whether rows have ``SoftmaxPlan/longColumns`` or more.
  package let hasLongRows: Bool
  /// Elements that may be read from `logits` on, for loads wider than a row.
  package var readableLogits: Int

  /// The class of each row, −1 where the row is ignored.
  package var labels: UnsafePointer<Int32>?
  /// A distribution for each row, when there are no labels.
  package var probabilities: UnsafePointer<Scalar>?
  package var probabilitiesStride: Int = 0

  package var classWeights: UnsafePointer<Scalar>?
  /// The sum of the class weights, `columns` without them.
  package var classWeightSum: Double
  /// Whether a class weight may be 0, so that its logit counts nothing even where it is −∞.
  package var mayHaveZeroClassWeight: Bool = true
  package var sampleWeights: UnsafePointer<Scalar>?
  package var labelSmoothing: Double = 0 {
    didSet { smoothing = labelSmoothing / Double(columns) }
  }
  /// What label smoothing gives each class.
  package private(set) var smoothing: Double = 0
  package var zLoss: Double = 0
  /// 0 for none.
  package var softCap: Double = 0

  /// May be the same memory as `logits`.
  package var gradient: UnsafeMutablePointer<Scalar>?
  package var gradientStride: Int = 0
  package var gradientScale: Double = 0
  /// Whether the gradient bypasses the cache.
  package var streams: Bool = false
  package var losses: UnsafeMutablePointer<Scalar>?

  /// `SoftmaxPlan.scratchCount(columns:)` elements aligned to 64 bytes.
  package var scratch: UnsafeMutablePointer<Scalar>
  /// Out: the sum of the weighted losses.
  package var sum: Double = 0
  /// Out: how many weighted losses are greater than 0.
  package var active: Int = 0

  package init(
    logits: UnsafePointer<Scalar>, logitsStride: Int, rows: Int, columns: Int, readableLogits: Int,
    classWeightSum: Double, scratch: UnsafeMutablePointer<Scalar>
  ) {
    self.logits = logits
    self.logitsStride = logitsStride
    self.rows = rows
    self.columns = columns
    (segmentSize, segmentCount) = (SoftmaxPlan.segment(columns), SoftmaxPlan.segments(columns))
    hasLongRows = columns >= SoftmaxPlan.longColumns
    self.readableLogits = readableLogits
    self.classWeightSum = classWeightSum
    self.scratch = scratch
  }
}

/// Evaluates softmax cross-entropy over one block of rows.
package typealias SoftmaxCrossEntropyKernel<Scalar: KernelScalar> =
  @Sendable (
    _ arguments: inout SoftmaxCrossEntropyArguments<Scalar>
  ) -> Void

/// A row of softmax cross-entropy whose sums are known and whose gradient is still to be written.
package struct SoftmaxRow<Scalar: KernelScalar> {
  /// e^(z − m) of the first segment, m its maximum; that of the label holds the label's part of the gradient as well.
  package var exponentials: UnsafeMutablePointer<Scalar>
  /// Their place among those in scratch memory; the next segments follow, around its end.
  package var firstPlace = 0
  package var logits: UnsafePointer<Scalar>
  /// The maximum of a long row, whose exponentials are taken again.
  package var largest: Scalar = 0
  /// The factor of each segment's exponentials in the gradient.
  package var scales: UnsafeMutablePointer<Scalar>
  /// The capped logits; used with a soft cap only.
  package var capped: UnsafeMutablePointer<Scalar>
  /// What capped logits lack, of the same row.
  package var rests: UnsafeMutablePointer<Scalar>
  package var probabilities: UnsafePointer<Scalar>?
  /// `nil` when no row waits.
  package var gradient: UnsafeMutablePointer<Scalar>?
  /// The factor of the targets in the gradient.
  package var targetScale: Scalar = 0
  /// What is taken from the gradient of `label` at the end, where the exponential could not carry it; else 0. Of long
  /// rows, the gradient itself.
  package var labelTerm: Scalar = 0
  package var label = 0

  package init(
    exponentials: UnsafeMutablePointer<Scalar>, scales: UnsafeMutablePointer<Scalar>,
    capped: UnsafeMutablePointer<Scalar>, rests: UnsafeMutablePointer<Scalar>
  ) {
    self.exponentials = exponentials
    self.scales = scales
    self.capped = capped
    self.rests = rests
    logits = UnsafePointer(exponentials)
  }
}

/// How the softmax kernels treat rows.
package enum SoftmaxPlan {
  /// Up to this many columns, each lane of a vector works on a row of its own.
  package static let laneColumns = 64
  /// From this many columns on, exponentials would no longer stay in a near cache until the gradient is written; some
  /// kernels then take them twice.
  package static let longColumns = 8192
  /// Elements of a row that are worked on while they stay in the first-level cache, at most.
  private static let largestSegment = 2048

  /// Elements of each segment of a row but the last: whole vectors, and segments of much the same length.
  package static func segment(_ columns: Int) -> Int {
    let count = max(1, (columns + largestSegment - 1) / largestSegment)
    return padded((columns + count - 1) / count)
  }

  /// Scratch elements that a block of rows of `columns` needs.
  package static func scratchCount(columns: Int) -> Int {
    // Logits, or capped ones and their rests, of a group of rows.
    if columns <= laneColumns { return 2 * 16 * padded(columns) }
    // Maxima of one row, exponentials, capped logits, their rests and scales of two.
    return exponentialCount(columns) + 4 * padded(columns) + 3 * padded(segments(columns)) + PartialLineMemory.count
      + PendingLossMemory.count
  }

  /// Elements for the exponentials of two rows, the segments of one taking the places of those of the other that have been
  /// written: one place more than a row has segments.
  package static func exponentialCount(_ columns: Int) -> Int { (segments(columns) + 1) * segment(columns) }

  package static func segments(_ columns: Int) -> Int {
    columns == 0 ? 0 : (columns - 1) / segment(columns) + 1
  }

  /// Rounded up to whole vectors.
  package static func padded(_ count: Int) -> Int { (count + 15) & ~15 }
}
