import BatchLossFormulas
import BatchLossKernelInterface

/// c·tanh(x/c) as a sum of two numbers, of which the second is less than the first one's rounding error.
///
/// Logits near a cap of 30 have a rounding error of 10⁻⁶, and so have all probabilities that come from them: hence float32
/// takes |x| or c, whichever is nearer, less a positive rest, and keeps what this difference loses. With t = |x|/c the rest
/// is |x|·(1 − tanh t / t) up to t = 1, by the continued fraction tanh t = t/(1 + t²/(3 + t²/(5 + t²/(7 + t²/(9 + t²/11))))),
/// and 2c/(1 + e^(2t)) beyond.
@inline(__always)
func softCapped<V: KernelVector>(_ x: V, _ cap: V) -> (high: V, low: V) {
  guard V.Lane.self == Float.self else { return (cap * V.tanh(x / cap), V(lane: 0)) }
  let (zero, one) = (V(lane: 0), V(lane: 1))
  let magnitude = x.magnitude
  let t = magnitude / cap
  let isLarge = one .< t
  let square = t * t
  let decay = V.exp(nonPositive: zero - (t + t))
  let numerator = V.multiplyAdd(square + V(189), square, V(3465))
  let denominator = V.multiplyAdd(
    V.multiplyAdd(square + V(210), square, V(4725)), square, V(10395))
  let quotient =
    numerator.replacing(with: decay + decay, where: isLarge)
    / denominator.replacing(with: one + decay, where: isLarge)
  let rest = quotient * (square * magnitude).replacing(with: cap, where: isLarge)
  let whole = magnitude.replacing(with: cap, where: isLarge)
  let high = whole - rest
  let low = (whole - high) - rest
  let isNegative = x .< zero
  return (high.replacing(with: zero - high, where: isNegative), low.replacing(with: zero - low, where: isNegative))
}
