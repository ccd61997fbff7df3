import BatchLossFormulas
import BatchLossKernelInterface

/// c·tanh(x/c) as a sum of two numbers, of which the second is less than the first one's rounding error.
///
/// A logit of 15 under a cap of 30 has a rounding error of 5·10⁻⁷ in float32, tanh 2 ulp, and so would have all
/// probabilities that come from it. Hence float32 takes |x| or c, whichever is nearer, less a positive rest, and keeps
/// what this difference loses. What remains is the rounding of the rest, which is small where |x| lies well below the cap
/// or well above it: 10⁻⁷ at 10, 7·10⁻⁷ at 20, at most 2.5·10⁻⁶, just above 30, where the slope is 0.4. With t = |x|/c
/// the rest is |x|·(1 − tanh t / t) up to t = 1, by the continued fraction
/// tanh t = t/(1 + t²/(3 + t²/(5 + t²/(7 + t²/(9 + t²/11))))), and 2c/(1 + e^(2t)) beyond. float64 takes the latter only,
/// for the sake of the slope.
@inline(__always)
func softCapped<V: KernelVector>(_ x: V, _ cap: V) -> (high: V, low: V) {
  let (t, decay) = softCapFirstStage(x, cap)
  return softCapped(x, cap, t, decay)
}

/// |x|/c and e^(−2|x|/c).
@inline(__always)
private func softCapFirstStage<V: KernelVector>(_ x: V, _ cap: V) -> (t: V, decay: V) {
  let t = x.magnitude / cap
  return (t, V.exp(nonPositive: V(lane: 0) - (t + t)))
}

@inline(__always)
private func softCapped<V: KernelVector>(_ x: V, _ cap: V, _ t: V, _ decay: V) -> (high: V, low: V) {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  let isFloat = V.Lane.self == Float.self
  let magnitude = x.magnitude
  let isLarge = one .< t
  let square = t * t
  let numerator = V.multiplyAdd(square + V(189), square, V(3465))
  let denominator = V.multiplyAdd(V.multiplyAdd(square + V(210), square, V(4725)), square, V(10395))
  let quotient =
    numerator.replacing(with: decay + decay, where: isLarge)
    / denominator.replacing(with: one + decay, where: isLarge)
  let rest = quotient * (square * magnitude).replacing(with: cap, where: isLarge)
  let whole = magnitude.replacing(with: cap, where: isLarge)
  var high = whole - rest
  var low = (whole - high) - rest
  if !isFloat {
    // The fraction has ten digits.
    high = (cap * V.tanh(t)).replacing(with: high, where: isLarge)
    low = zero.replacing(with: low, where: isLarge)
  }
  let isNegative = x .< zero
  return (high.replacing(with: zero - high, where: isNegative), low.replacing(with: zero - low, where: isNegative))
}

/// 1 − tanh²(x/c). Beyond a half of the cap by what is missing to it, (1 − tanh)·(2 − (1 − tanh)), which keeps its digits
/// where the cap is all but reached.
@inline(__always)
func softCapSlope<V: KernelVector>(_ high: V, _ low: V, _ cap: V, inverse: V) -> V {
  let magnitude = high.magnitude
  let rest = low.replacing(with: V(lane: 0) - low, where: high .< V(lane: 0))
  let missing = ((cap - magnitude) - rest) * inverse
  let ratio = magnitude * inverse
  return (V(lane: 1) - ratio * ratio)
    .replacing(with: missing * (V(lane: 2) - missing), where: V(lane: 0.5) .< ratio)
}

/// The cap in the type of the lanes, and its inverse.
@inline(__always)
func softCap<V: KernelVector>(_ arguments: SoftmaxCrossEntropyArguments<V.Lane>, as: V.Type) -> (cap: V, inverse: V)
{
  // One beyond the type's range caps nothing, one below it all.
  let largest = min(arguments.softCap, widen(V.Lane.greatestFiniteMagnitude))
  let cap = V.Lane(max(largest, widen(V.Lane.leastNormalMagnitude)))
  return (V(lane: cap), V(1 / widen(cap)))
}

/// c·tanh(x/c) of every element, and what each lacks; and the largest, −∞ when there is none but NaN.
///
/// The first stages are four vectors ahead, and wait where the results go: see `plainInTwoStages`. Not inlined, or its two
/// dozen constants would be loaded for every segment of any row.
@inline(never)
func capLogits<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ destination: UnsafeMutablePointer<V.Lane>,
  _ rests: UnsafeMutablePointer<V.Lane>, _ count: Int, _ cap: V
) -> V.Lane {
  @inline(__always)
  func takeFirstStage(_ index: Int, _ lanes: Int) {
    let (t, decay) = softCapFirstStage(loadLanes(source + index, lanes, as: V.self), cap)
    storeLanes(t, destination + index, lanes)
    storeLanes(decay, rests + index, lanes)
  }
  let lowest = V(lane: -.infinity)
  var largest = lowest
  @inline(__always)
  func takeSecondStage(_ index: Int, _ lanes: Int) {
    let t = loadLanes(UnsafePointer(destination) + index, lanes, as: V.self)
    let decay = loadLanes(UnsafePointer(rests) + index, lanes, as: V.self)
    let (capped, rest) = softCapped(loadLanes(source + index, lanes, as: V.self), cap, t, decay)
    storeLanes(capped, destination + index, lanes)
    storeLanes(rest, rests + index, lanes)
    let counted = lanes < V.laneCount ? lowest.replacing(with: capped, where: V.first(lanes)) : capped
    largest = .maximum(largest, counted)
  }
  let whole = count & -V.laneCount
  let ahead = min(4 * V.laneCount, whole)
  var index = 0
  while index < ahead {
    takeFirstStage(index, V.laneCount)
    index += V.laneCount
  }
  index = 0
  while index < whole - ahead {
    takeFirstStage(index + ahead, V.laneCount)
    takeSecondStage(index, V.laneCount)
    index += V.laneCount
  }
  while index < whole {
    takeSecondStage(index, V.laneCount)
    index += V.laneCount
  }
  if index < count {
    takeFirstStage(index, count - index)
    takeSecondStage(index, count - index)
  }
  return largest.largest
}
