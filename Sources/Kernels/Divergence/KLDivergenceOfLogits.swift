import BatchLossFormulas
import BatchLossKernelInterface
import Glibc

/// The KL divergence of one block of rows where both distributions are logits.
///
/// As for softmax cross-entropy, one loop takes the exponentials of this row, looks for the maxima of the next and
/// writes the gradients of the row before.
@inline(never)
func klDivergenceOfLogits<V: KernelVector>(_ arguments: inout KLDivergenceArguments<V.Lane>, as: V.Type) {
  let columns = arguments.columns
  let padded = KLDivergenceArguments<V.Lane>.padded(columns)
  let scratch = arguments.scratch
  var row = KLDivergenceRow(
    input: arguments.input, target: arguments.target, inputExponentials: scratch,
    targetExponentials: scratch + padded)
  var waiting = KLDivergenceRow(
    input: arguments.input, target: arguments.target, inputExponentials: scratch + 2 * padded,
    targetExponentials: scratch + 3 * padded)
  let square = arguments.temperature * arguments.temperature
  let inverseTemperature = V.Lane(1 / arguments.temperature)

  var (sum, active) = (0.0, 0)
  var ahead = (input: V.Lane(0), target: V.Lane(0), isKnown: false)
  for index in 0..<arguments.rows {
    var weight = 1.0
    if let weights = arguments.weights { weight = Double(weights[index]) }
    row.inputGradient = advance(arguments.inputGradient, index * arguments.inputGradientStride)
    row.targetGradient = advance(arguments.targetGradient, index * arguments.targetGradientStride)
    var loss = 0.0
    if weight == 0 {
      if let gradient = row.inputGradient { clearRow(gradient, arguments, as: V.self) }
      if let gradient = row.targetGradient { clearRow(gradient, arguments, as: V.self) }
      ahead.isKnown = false
    } else {
      row.input = arguments.input + index * arguments.inputStride
      row.target = arguments.target + index * arguments.targetStride
      row.inputShift = ahead.isKnown ? ahead.input : largestElement(row.input, columns, as: V.self)
      row.targetShift = ahead.isKnown ? ahead.target : largestElement(row.target, columns, as: V.self)
      let isLast = index + 1 == arguments.rows
      let sums = klDivergenceSums(
        row, waiting, columns, inverseTemperature,
        nextInput: isLast ? row.input : row.input + arguments.inputStride,
        nextTarget: isLast ? row.target : row.target + arguments.targetStride, arguments.streams, as: V.self)
      ahead = (sums.nextInput, sums.nextTarget, true)
      let shift = log(sums.input) - log(sums.target)
      let divergence = sums.product / sums.target + shift
      loss = weight * square * divergence

      // d(T²·KL)/dx, in which one T comes from the logits' division.
      let outer = arguments.gradientScale * weight * arguments.temperature
      row.inputFactor = V.Lane(outer / sums.input)
      row.targetFactor = V.Lane(-outer / sums.target)
      row.outer = V.Lane(outer / sums.target)
      row.offset = V.Lane(shift - divergence)
      row.offsetRest = V.Lane(shift - divergence - Double(row.offset))
      let (input, target) = (waiting.inputExponentials, waiting.targetExponentials)
      waiting = row
      (row.inputExponentials, row.targetExponentials) = (input, target)
    }
    sum += loss
    if loss > 0 { active += 1 }
    if let losses = arguments.losses { losses[index] = V.Lane(loss) }
  }
  _ = klDivergenceSums(
    row, waiting, columns, inverseTemperature, nextInput: nil, nextTarget: nil, arguments.streams, as: V.self)
  arguments.sum = sum
  arguments.active = active
}

/// Σ e^x, Σ e^u and Σ e^u·(u − x) of a row, relative to its shifts, and the maxima of the next one, while the
/// gradients of the waiting row are written; without a next row only these.
@inline(never)
private func klDivergenceSums<V: KernelVector>(
  _ row: KLDivergenceRow<V.Lane>, _ waiting: KLDivergenceRow<V.Lane>, _ columns: Int, _ inverseTemperature: V.Lane,
  nextInput: UnsafePointer<V.Lane>?, nextTarget: UnsafePointer<V.Lane>?, _ streams: Bool, as: V.Type
) -> (input: Double, target: Double, product: Double, nextInput: V.Lane, nextTarget: V.Lane) {
  let zero = V(lane: 0)
  let scale = V(lane: inverseTemperature)
  // Into locals, because for all the compiler knows the stores below may change what arguments point to.
  let (x, u) = (waiting.input, waiting.target)
  let (ex, eu) = (UnsafePointer(waiting.inputExponentials), UnsafePointer(waiting.targetExponentials))
  let (xShift, uShift) = (V(lane: waiting.inputShift), V(lane: waiting.targetShift))
  let (inputFactor, targetFactor) = (V(lane: waiting.inputFactor), V(lane: waiting.targetFactor))
  let outer = V(lane: waiting.outer)
  let (offset, offsetRest) = (V(lane: waiting.offset), V(lane: waiting.offsetRest))

  @inline(__always)
  func inputGradient(_ index: Int, _ lanes: Int) -> V {
    V.multiplyAdd(
      loadLanes(ex + index, lanes, as: V.self), inputFactor,
      loadLanes(eu + index, lanes, as: V.self) * targetFactor)
  }
  @inline(__always)
  func targetGradient(_ index: Int, _ lanes: Int) -> V {
    let e = loadLanes(eu + index, lanes, as: V.self)
    let difference =
      (loadLanes(u + index, lanes, as: V.self) - uShift) - (loadLanes(x + index, lanes, as: V.self) - xShift)
    // A probability of 0 counts 0 whatever the other is.
    let logarithm = V.multiplyAdd(difference, scale, offset) + offsetRest
    return (e * outer * logarithm).replacing(with: zero, where: e .== zero)
  }

  // Whole lines of the waiting gradients begin a little later than the vectors of this row.
  let inputOutput = waiting.inputGradient ?? waiting.inputExponentials
  let targetOutput = waiting.targetGradient ?? waiting.targetExponentials
  let (inputLead, inputEnd) = wholeLines(waiting.inputGradient, columns, streams, as: V.self)
  let (targetLead, targetEnd) = wholeLines(waiting.targetGradient, columns, streams, as: V.self)
  if inputLead > 0 { inputGradient(0, inputLead).store(inputOutput, count: inputLead) }
  if targetLead > 0 { targetGradient(0, targetLead).store(targetOutput, count: targetLead) }

  var result = (input: 0.0, target: 0.0, product: 0.0, nextInput: V.Lane(0), nextTarget: V.Lane(0))
  if let nextInput, let nextTarget {
    let (input, target) = (row.input, row.target)
    let (inputExponentials, targetExponentials) = (row.inputExponentials, row.targetExponentials)
    let (inputShift, targetShift) = (V(lane: row.inputShift), V(lane: row.targetShift))
    var (largestInput, largestTarget) = (V(lane: -.infinity), V(lane: -.infinity))
    var (inputSum, targetSum, productSum) = (zero, zero, zero)
    @inline(__always)
    func step(_ index: Int, _ lanes: Int) {
      let dx = loadLanes(input + index, lanes, padding: -.infinity, as: V.self) - inputShift
      let du = loadLanes(target + index, lanes, padding: -.infinity, as: V.self) - targetShift
      // Not exp(ofSummand:): the slope of a target is its probability times a difference that may be 40.
      let e = V.exp(nonPositive: dx * scale)
      let f = V.exp(nonPositive: du * scale)
      inputSum = inputSum + e
      targetSum = targetSum + f
      productSum = productSum + (f * (du - dx)).replacing(with: zero, where: f .== zero)
      if inputLead + index < inputEnd {
        inputGradient(inputLead + index, V.laneCount).store(inputOutput + (inputLead + index), streams: streams)
      }
      if targetLead + index < targetEnd {
        targetGradient(targetLead + index, V.laneCount).store(targetOutput + (targetLead + index), streams: streams)
      }
      storeLanes(e, inputExponentials + index, lanes)
      storeLanes(f, targetExponentials + index, lanes)
      largestInput = .maximum(largestInput, loadLanes(nextInput + index, lanes, padding: -.infinity, as: V.self))
      largestTarget = .maximum(largestTarget, loadLanes(nextTarget + index, lanes, padding: -.infinity, as: V.self))
    }
    @inline(__always)
    func flush() {
      result.input += inputSum.total
      result.target += targetSum.total
      result.product += productSum.total
      (inputSum, targetSum, productSum) = (zero, zero, zero)
    }
    let whole = columns & -V.laneCount
    var index = 0
    while index < whole {
      // Lanes are added to float64 before their rounding errors can grow.
      let end = min(index + 32 * V.laneCount, whole)
      while index < end {
        step(index, V.laneCount)
        prefetch(after: nextInput + index)
        prefetch(after: nextTarget + index)
        index += V.laneCount
      }
      flush()
    }
    if index < columns {
      step(index, columns - index)
      flush()
    }
    result.product *= Double(inverseTemperature)
    (result.nextInput, result.nextTarget) = (largestInput.largest, largestTarget.largest)
  }
  let written = nextInput != nil
  if waiting.inputGradient != nil {
    forEachVector(
      from: written ? inputEnd : inputLead, to: columns, destination: inputOutput, streams: streams, as: V.self,
      inputGradient)
  }
  if waiting.targetGradient != nil {
    forEachVector(
      from: written ? targetEnd : targetLead, to: columns, destination: targetOutput, streams: streams, as: V.self,
      targetGradient)
  }
  return result
}
