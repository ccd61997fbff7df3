import BatchLossFormulas
import BatchLossKernelInterface
import Glibc

/// The KL divergence of one block of rows where both distributions are logits.
///
/// A loop for each side takes the exponentials of a row and their sums, and looks for the maximum of the next row, which
/// brings that one from memory; loops of their own then write the gradients from what lies in the first-level cache.
/// All of it in one loop keeps more values alive than AVX2 has registers: 249 instructions, 38 of them with the stack.
@inline(never)
func klDivergenceOfLogits<V: KernelVector>(_ arguments: inout KLDivergenceArguments<V.Lane>, as: V.Type) {
  let columns = arguments.columns
  let square = arguments.temperature * arguments.temperature
  let inverseTemperature = V.Lane(1 / arguments.temperature)
  let scratch = KLDivergenceScratch(arguments.scratch, columns: columns)

  var (sum, active) = (0.0, 0)
  var ahead = (input: V.Lane(0), target: V.Lane(0), isKnown: false)
  for index in 0..<arguments.rows {
    var weight = 1.0
    if let weights = arguments.weights { weight = Double(weights[index]) }
    let inputGradient = advance(arguments.inputGradient, index * arguments.inputGradientStride)
    let targetGradient = advance(arguments.targetGradient, index * arguments.targetGradientStride)
    var loss = 0.0
    if weight == 0 {
      if let inputGradient { clearRow(inputGradient, arguments, as: V.self) }
      if let targetGradient { clearRow(targetGradient, arguments, as: V.self) }
      ahead.isKnown = false
    } else {
      let input = arguments.input + index * arguments.inputStride
      let target = arguments.target + index * arguments.targetStride
      let inputShift = ahead.isKnown ? ahead.input : largestElement(input, columns, as: V.self)
      let targetShift = ahead.isKnown ? ahead.target : largestElement(target, columns, as: V.self)
      let isLast = index + 1 == arguments.rows
      let sums = klDivergenceSums(
        input, target, columns, inputShift, targetShift, inverseTemperature, scratch,
        nextInput: isLast ? input : input + arguments.inputStride,
        nextTarget: isLast ? target : target + arguments.targetStride, as: V.self)
      ahead = (sums.nextInput, sums.nextTarget, true)
      let shift = log(sums.input) - log(sums.target)
      let divergence = sums.product / sums.target + shift
      loss = weight * square * divergence

      // d(T²·KL)/dx, in which one T comes from the logits' division.
      let outer = arguments.gradientScale * weight * arguments.temperature
      if let inputGradient {
        writeInputGradient(
          inputGradient, columns, scratch, outer / sums.input, -outer / sums.target, arguments.streams, as: V.self)
      }
      if let targetGradient {
        writeTargetGradient(
          targetGradient, columns, scratch, outer / sums.target, inverseTemperature, shift - divergence,
          arguments.streams, as: V.self)
      }
    }
    sum += loss
    if loss > 0 { active += 1 }
    if let losses = arguments.losses { losses[index] = V.Lane(loss) }
  }
  arguments.sum = sum
  arguments.active = active
}

/// Σ e^x, Σ e^u and Σ e^u·(u − x) of a row, relative to its shifts, and the maxima of the next one. The exponentials
/// and the differences u − x go to scratch memory; a difference is 0 where e^u is, since a probability of 0 counts 0
/// whatever the other is.
@inline(never)
private func klDivergenceSums<V: KernelVector>(
  _ input: UnsafePointer<V.Lane>, _ target: UnsafePointer<V.Lane>, _ columns: Int, _ inputShift: V.Lane,
  _ targetShift: V.Lane, _ inverseTemperature: V.Lane, _ scratch: KLDivergenceScratch<V.Lane>,
  nextInput: UnsafePointer<V.Lane>, nextTarget: UnsafePointer<V.Lane>, as: V.Type
) -> (input: Double, target: Double, product: Double, nextInput: V.Lane, nextTarget: V.Lane) {
  let zero = V(lane: 0)
  let scale = V(lane: inverseTemperature)
  let (inputShift, targetShift) = (V(lane: inputShift), V(lane: targetShift))
  // Into locals, because for all the compiler knows the stores below may change what arguments point to.
  let (inputExponentials, targetExponentials) = (scratch.inputExponentials, scratch.targetExponentials)
  let differences = scratch.differences
  var result = (input: 0.0, target: 0.0, product: 0.0, nextInput: V.Lane(0), nextTarget: V.Lane(0))
  var (largestInput, largestTarget) = (V(lane: -.infinity), V(lane: -.infinity))
  var (inputSum, targetSum, productSum) = (zero, zero, zero)
  // Not exp(ofSummand:): the slope of a target is its probability times a difference that may be 40.
  @inline(__always)
  func targetStep(_ index: Int, _ lanes: Int) {
    let du = loadLanes(target + index, lanes, padding: -.infinity, as: V.self) - targetShift
    let f = V.exp(nonPositive: du * scale)
    storeLanes(f, targetExponentials + index, lanes)
    storeLanes(du, differences + index, lanes)
    targetSum = targetSum + f
    largestTarget = .maximum(largestTarget, loadLanes(nextTarget + index, lanes, padding: -.infinity, as: V.self))
  }
  @inline(__always)
  func inputStep(_ index: Int, _ lanes: Int) {
    let dx = loadLanes(input + index, lanes, padding: -.infinity, as: V.self) - inputShift
    let e = V.exp(nonPositive: dx * scale)
    storeLanes(e, inputExponentials + index, lanes)
    inputSum = inputSum + e
    let f = loadLanes(UnsafePointer(targetExponentials) + index, lanes, as: V.self)
    let du = loadLanes(UnsafePointer(differences) + index, lanes, as: V.self)
    let difference = (du - dx).replacing(with: zero, where: f .== zero)
    storeLanes(difference, differences + index, lanes)
    productSum = V.multiplyAdd(f, difference, productSum)
    largestInput = .maximum(largestInput, loadLanes(nextInput + index, lanes, padding: -.infinity, as: V.self))
  }
  @inline(__always)
  func targetFlush() {
    result.target += targetSum.total
    targetSum = zero
  }
  @inline(__always)
  func inputFlush() {
    result.input += inputSum.total
    result.product += productSum.total
    (inputSum, productSum) = (zero, zero)
  }
  let whole = columns & -V.laneCount
  var index = 0
  while index < whole {
    // Lanes are added to float64 before their rounding errors can grow.
    let end = min(index + 32 * V.laneCount, whole)
    while index < end {
      targetStep(index, V.laneCount)
      prefetch(after: nextTarget + index)
      index += V.laneCount
    }
    targetFlush()
  }
  if index < columns {
    targetStep(index, columns - index)
    targetFlush()
  }
  index = 0
  while index < whole {
    // Lanes are added to float64 before their rounding errors can grow.
    let end = min(index + 32 * V.laneCount, whole)
    while index < end {
      inputStep(index, V.laneCount)
      prefetch(after: nextInput + index)
      index += V.laneCount
    }
    inputFlush()
  }
  if index < columns {
    inputStep(index, columns - index)
    inputFlush()
  }
  result.product *= Double(inverseTemperature)
  (result.nextInput, result.nextTarget) = (largestInput.largest, largestTarget.largest)
  return result
}

/// `inputFactor`·e^x + `targetFactor`·e^u.
@inline(never)
private func writeInputGradient<V: KernelVector>(
  _ gradient: UnsafeMutablePointer<V.Lane>, _ columns: Int, _ scratch: KLDivergenceScratch<V.Lane>,
  _ inputFactor: Double, _ targetFactor: Double, _ streams: Bool, as: V.Type
) {
  let (inputFactor, targetFactor) = (V(inputFactor), V(targetFactor))
  let ex = UnsafePointer(scratch.inputExponentials)
  let eu = UnsafePointer(scratch.targetExponentials)
  // Not by forEachVector(…): a closure would stay a call for each vector.
  @inline(__always)
  func value(_ index: Int, _ lanes: Int) -> V {
    V.multiplyAdd(
      loadLanes(ex + index, lanes, as: V.self), inputFactor,
      loadLanes(eu + index, lanes, as: V.self) * targetFactor)
  }
  let (lead, end) = wholeLines(gradient, columns, streams, as: V.self)
  if lead > 0 { value(0, lead).store(gradient, count: lead) }
  var index = lead
  while index < end {
    value(index, V.laneCount).store(gradient + index, streams: streams)
    index += V.laneCount
  }
  if end < columns { value(end, columns - end).store(gradient + end, count: columns - end) }
}

/// `outer`·e^u·((u − x)·`scale` + `offset`).
@inline(never)
private func writeTargetGradient<V: KernelVector>(
  _ gradient: UnsafeMutablePointer<V.Lane>, _ columns: Int, _ scratch: KLDivergenceScratch<V.Lane>,
  _ outer: Double, _ scale: V.Lane, _ offset: Double, _ streams: Bool, as: V.Type
) {
  let eu = UnsafePointer(scratch.targetExponentials)
  let differences = UnsafePointer(scratch.differences)
  let (outer, scale, zero) = (V(outer), V(lane: scale), V(lane: 0))
  // In two parts: it is up to 20, and the sum with it cancels where e^u is largest.
  let leading = V.Lane(offset)
  let (offset, rest) = (V(lane: leading), V(lane: V.Lane(offset - Double(leading))))
  guard leading.isFinite else {
    return forEachVector(from: 0, to: columns, destination: gradient, streams: streams, as: V.self) {
      index, lanes in
      let e = loadLanes(eu + index, lanes, as: V.self)
      let logarithm = V.multiplyAdd(loadLanes(differences + index, lanes, as: V.self), scale, offset)
      return (e * outer * logarithm).replacing(with: zero, where: e .== zero)
    }
  }
  @inline(__always)
  func value(_ index: Int, _ lanes: Int) -> V {
    let logarithm = V.multiplyAdd(loadLanes(differences + index, lanes, as: V.self), scale, offset) + rest
    return loadLanes(eu + index, lanes, as: V.self) * outer * logarithm
  }
  let (lead, end) = wholeLines(gradient, columns, streams, as: V.self)
  if lead > 0 { value(0, lead).store(gradient, count: lead) }
  var index = lead
  while index < end {
    value(index, V.laneCount).store(gradient + index, streams: streams)
    index += V.laneCount
  }
  if end < columns { value(end, columns - end).store(gradient + end, count: columns - end) }
}
