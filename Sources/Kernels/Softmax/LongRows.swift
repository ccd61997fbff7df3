import BatchLossFormulas
import BatchLossKernelInterface

// Rows whose exponentials would not stay in a near cache until the gradient is written. The logits of the row before
// are still in the second-level cache while this one is summed up, so that its exponentials are taken again: what would
// be written to the cache and read back costs more than their arithmetic.

/// Whether exponentials are taken twice. That pays off with AVX-512 alone: on AVX2 the arithmetic takes twice the
/// instructions and has more values alive than there are registers; nor in float64, whose exponential is twice as long.
@inline(__always)
func isLong<Lane: KernelScalar>(_ arguments: SoftmaxCrossEntropyArguments<Lane>) -> Bool {
  #if BATCHLOSS_X86_V4
    return Lane.self == Float.self && arguments.hasLongRows
      && arguments.labels != nil && arguments.labelSmoothing == 0 && arguments.softCap == 0
  #else
    return false
  #endif
}

/// The sums of a row, while the gradient of the waiting row is written.
@inline(__always)
func longRowSums<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ logits: UnsafePointer<V.Lane>,
  _ waiting: inout SoftmaxRow<V.Lane>,
  _ partialLine: inout PartialLine<V.Lane>, as: V.Type
) -> SoftmaxSums<V.Lane> {
  let sums = exponentialSum(
    ofLong: logits, arguments.columns, to: nil, writing: longRowGradient(&waiting), streams: arguments.streams,
    &partialLine, as: V.self)
  return SoftmaxSums(largest: sums.largest, shift: sums.shift, scaledSum: sums.sum)
}

/// The gradient of a waiting row but for its label.
@inline(__always)
func longRowGradient<Lane: KernelScalar>(_ row: inout SoftmaxRow<Lane>) -> RepeatedGradient<Lane> {
  RepeatedGradient(output: row.gradient, source: row.logits, shift: row.largest, scale: row.scales[0])
}

/// Prepares `factor`·e^(z − largest), less `term` at the label.
@inline(__always)
func setLongRowGradient<V: KernelVector>(
  _ row: inout SoftmaxRow<V.Lane>, _ largest: V.Lane, factor: Double, term: Double, as: V.Type
) {
  row.largest = largest
  row.scales[0] = V.Lane(factor)
  // By the factor before it was rounded: near p = 1 this is a difference of what is almost equal.
  let exponential = V.exp(ofSummand: V(lane: row.logits[row.label] - largest))[0]
  row.labelTerm = V.Lane(factor * Double(exponential) - term)
}
