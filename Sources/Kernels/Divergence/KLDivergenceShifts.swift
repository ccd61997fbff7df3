import BatchLossFormulas
import BatchLossKernelInterface

/// What the logits of a row are relative to.
struct KLDivergenceShifts<Lane: KernelScalar> {
  /// The largest of each side.
  var (input, target): (Lane, Lane)
  /// The input where the target is largest.
  ///
  /// Differences u − x are relative to it where it lies far below the largest, and to that elsewhere. So they are smallest,
  /// and rounded least, where they weigh most: in a row of nearly one class, whose difference may be 40, the slopes of all
  /// others are about 1.
  var reference: Lane

  /// How far `reference` lies below the largest input.
  @inline(__always)
  var excess: Double { Double(input) - Double(reference) }

  /// From lanes of largest elements, and of the inputs where the targets are.
  @inline(__always)
  init<V: KernelVector>(_ largestInput: V, _ largestTarget: V, _ inputAtLargest: V) where V.Lane == Lane {
    (input, target) = (largestInput.largest, largestTarget.largest)
    let lowest = V(lane: -.infinity)
    // `largest` must not see NaN.
    reference =
      lowest.replacing(with: .maximum(lowest, inputAtLargest), where: largestTarget .== V(lane: target))
      .largest
  }

  /// With the reference that differences shall be relative to.
  @inline(__always)
  func chosen(_ inverseTemperature: Lane) -> Self {
    var result = self
    if !reference.isFinite || excess * Double(inverseTemperature) < 2 { result.reference = input }
    return result
  }
}

/// The shifts of a row that no row before has looked at.
@inline(never)
func klDivergenceShifts<V: KernelVector>(
  _ input: UnsafePointer<V.Lane>, _ target: UnsafePointer<V.Lane>, _ columns: Int, as: V.Type
) -> KLDivergenceShifts<V.Lane> {
  var (largestInput, largestTarget) = (V(lane: -.infinity), V(lane: -.infinity))
  var inputAtLargest = largestInput
  var index = 0
  while index < columns {
    let lanes = min(V.laneCount, columns - index)
    let x = loadLanes(input + index, lanes, padding: -.infinity, as: V.self)
    let u = loadLanes(target + index, lanes, padding: -.infinity, as: V.self)
    inputAtLargest = inputAtLargest.replacing(with: x, where: largestTarget .< u)
    (largestInput, largestTarget) = (.maximum(largestInput, x), .maximum(largestTarget, u))
    index += lanes
  }
  return KLDivergenceShifts(largestInput, largestTarget, inputAtLargest)
}
