import BatchLossFormulas
import BatchLossKernelInterface
import Glibc

/// The KL divergence of one block of rows where both distributions are logits.
///
/// While the exponentials and sums of a row are taken, the maxima of the next row and its input where its target is
/// largest are looked for, which brings that row from memory, and the gradients of the row before are written from what
/// lies in the first-level cache. They are a little ahead, because what is kept of this row takes the place of what was
/// kept of that one.
@inline(never)
func klDivergenceOfLogits<V: KernelVector>(_ arguments: inout KLDivergenceArguments<V.Lane>, as: V.Type) {
  let columns = arguments.columns
  let square = arguments.temperature * arguments.temperature
  let inverseTemperature = V.Lane(1 / arguments.temperature)
  let kept = KLDivergenceScratch(arguments.scratch, columns: columns)
  var waiting = KLDivergenceGradients<V.Lane>()
  let lead = gradientLead(arguments, as: V.self)
  var partialLines = (input: PartialLine(kept.inputPartialLine), target: PartialLine(kept.targetPartialLine))

  var (sum, active) = (0.0, 0)
  var ahead: KLDivergenceShifts<V.Lane>?
  for index in 0..<arguments.rows {
    var weight = 1.0
    if let weights = arguments.weights { weight = Double(weights[index]) }
    let inputGradient = advance(arguments.inputGradient, index * arguments.inputGradientStride)
    let targetGradient = advance(arguments.targetGradient, index * arguments.targetGradientStride)
    var loss = 0.0
    if weight == 0 {
      if let inputGradient { clearRow(inputGradient, arguments, as: V.self) }
      if let targetGradient { clearRow(targetGradient, arguments, as: V.self) }
      ahead = nil
    } else {
      let input = arguments.input + index * arguments.inputStride
      let target = arguments.target + index * arguments.targetStride
      var shifts = (ahead ?? klDivergenceShifts(input, target, columns, as: V.self)).chosen(inverseTemperature)
      let isLast = index + 1 == arguments.rows
      let nextInput = isLast ? input : input + arguments.inputStride
      let nextTarget = isLast ? target : target + arguments.targetStride
      var sums: KLDivergenceSums<V.Lane>
      if inverseTemperature == 1 {
        sums = klDivergenceSums(
          input, target, columns, shifts, 1, to: kept, nextInput: nextInput, nextTarget: nextTarget,
          writing: waiting, ahead: lead, arguments.streams, &partialLines,
          UnitTemperature.self, as: V.self)
      } else {
        sums = klDivergenceSums(
          input, target, columns, shifts, inverseTemperature, to: kept, nextInput: nextInput,
          nextTarget: nextTarget, writing: waiting, ahead: lead, arguments.streams, &partialLines,
          AnyTemperature.self, as: V.self)
      }
      ahead = sums.next
      let normalizers = log(sums.input / sums.target)
      var offset = sums.product / sums.target
      var excess = shifts.excess * Double(inverseTemperature)
      var divergence = offset + (excess + normalizers)
      if !offset.isFinite || isCancelled(divergence, excess, targetSum: sums.target, columns) {
        shifts.reference = shifts.input
        sums.product = productWithoutZeros(
          input, target, columns, shifts, inverseTemperature, in: kept, as: V.self)
        (offset, excess) = (sums.product / sums.target, 0)
        divergence = offset + normalizers
      }
      if divergence.isNaN { offset = .nan }
      loss = weight * square * divergence

      // d(T²·KL)/dx, in which one T comes from the logits' division.
      let outer = arguments.gradientScale * weight * arguments.temperature
      waiting = KLDivergenceGradients()
      waiting.input = inputGradient
      (waiting.inputFactor, waiting.targetFactor) = (V.Lane(outer / sums.input), V.Lane(-outer / sums.target))
      // In two parts, because the difference with it may cancel.
      waiting.offset = V.Lane(offset)
      waiting.rest = V.Lane(offset - Double(waiting.offset))
      // Differences are no less than −excess where they count.
      if V.Lane(offset + excess).isFinite {
        waiting.target = targetGradient
      } else if let targetGradient {
        writeUnboundedGradient(targetGradient, columns, waiting, in: kept, arguments.streams, as: V.self)
      }
    }
    sum += loss
    if loss > 0 { active += 1 }
    if let losses = arguments.losses { losses[index] = V.Lane(loss) }
  }
  klDivergenceRest(waiting, in: kept, columns, arguments.streams, &partialLines, as: V.self)
  arguments.sum = sum
  arguments.active = active
}

/// What waits of the gradients of rows before.
typealias KLDivergencePartialLines<Lane: KernelScalar> = (
  input: PartialLine<Lane>, target: PartialLine<Lane>
)

/// Gradients of a row whose sums are known, which are yet to be written.
private struct KLDivergenceGradients<Lane: KernelScalar> {
  /// `inputFactor`·e^x + `targetFactor`·e^u, where wanted.
  var input: UnsafeMutablePointer<Lane>?
  var (inputFactor, targetFactor): (Lane, Lane) = (0, 0)
  /// `targetFactor`·e^u·(`offset` − (u − x) + `rest`), where wanted.
  var target: UnsafeMutablePointer<Lane>?
  var (offset, rest): (Lane, Lane) = (0, 0)

  /// `targetFactor`·e^u
  @inline(__always)
  func targetTerm<V: KernelVector>(_ kept: KLDivergenceScratch<Lane>, _ index: Int, _ lanes: Int) -> V
  where V.Lane == Lane {
    loadLanes(UnsafePointer(kept.targetExponentials) + index, lanes, as: V.self) * V(lane: targetFactor)
  }

  @inline(__always)
  func inputGradient<V: KernelVector>(
    _ kept: KLDivergenceScratch<Lane>, _ targetTerm: V, _ index: Int, _ lanes: Int
  ) -> V where V.Lane == Lane {
    V.multiplyAdd(
      loadLanes(UnsafePointer(kept.inputExponentials) + index, lanes, as: V.self), V(lane: inputFactor),
      targetTerm)
  }

  @inline(__always)
  func targetGradient<V: KernelVector>(
    _ kept: KLDivergenceScratch<Lane>, _ targetTerm: V, _ index: Int, _ lanes: Int
  ) -> V where V.Lane == Lane {
    let difference = loadLanes(UnsafePointer(kept.differences) + index, lanes, as: V.self)
    return V.multiplyAdd(targetTerm, V(lane: offset) - difference, targetTerm * V(lane: rest))
  }

  @inline(__always)
  func inputGradient<V: KernelVector>(
    _ kept: KLDivergenceScratch<Lane>, _ index: Int, _ lanes: Int, as: V.Type
  ) -> V where V.Lane == Lane {
    inputGradient(kept, targetTerm(kept, index, lanes), index, lanes)
  }

  @inline(__always)
  func targetGradient<V: KernelVector>(
    _ kept: KLDivergenceScratch<Lane>, _ index: Int, _ lanes: Int, as: V.Type
  ) -> V where V.Lane == Lane {
    targetGradient(kept, targetTerm(kept, index, lanes), index, lanes)
  }
}

/// Whether a loss is so small a rest of `excess` that it may have lost more digits than it can: where the target gives the
/// class that differences are relative to so little that all others lie `excess` away from it. In a flat target their
/// roundings are alike and add up.
private func isCancelled(_ divergence: Double, _ excess: Double, targetSum: Double, _ columns: Int) -> Bool {
  excess > (2 * targetSum > Double(columns) ? 4 : 16) * abs(divergence)
}

/// Σ e^x, Σ e^u and Σ e^u·(u − x) of a row, relative to its shifts and divided by the temperature, and the shifts of the
/// next one.
private typealias KLDivergenceSums<Lane: KernelScalar> = (
  input: Double, target: Double, product: Double, next: KLDivergenceShifts<Lane>
)

/// Whether logits are divided by a temperature, known when a loop is compiled.
private protocol Tempering {
  static func scaled<V: KernelVector>(_ difference: V, _ inverseTemperature: V) -> V
}

private enum UnitTemperature: Tempering {
  @inline(__always)
  static func scaled<V: KernelVector>(_ difference: V, _: V) -> V { difference }
}

private enum AnyTemperature: Tempering {
  @inline(__always)
  static func scaled<V: KernelVector>(_ difference: V, _ inverseTemperature: V) -> V {
    difference * inverseTemperature
  }
}

/// Vectors that are taken in one loop, where there are too few registers for the whole of it.
private var splitLength: Int { 8 }

/// How many elements the gradients of the row before are ahead of what is read of this row and the next one, wherever their
/// whole lines begin. Rows of a block are alike where all strides are; where they are not, this is right for the first.
@inline(__always)
private func gradientLead<V: KernelVector>(_ arguments: KLDivergenceArguments<V.Lane>, as: V.Type) -> Int {
  @inline(__always)
  func holdsBackRows(_ gradient: UnsafeMutablePointer<V.Lane>?, _ place: Int) -> Bool {
    guard let gradient else { return false }
    let last = place + V.laneCount - 1
    let (input, target) = (arguments.input + arguments.inputStride, arguments.target + arguments.targetStride)
    return holdsBack(input, gradient, place, as: V.self) || holdsBack(input, gradient, last, as: V.self)
      || holdsBack(input + arguments.inputStride, gradient, place, as: V.self)
      || holdsBack(input + arguments.inputStride, gradient, last, as: V.self)
      || holdsBack(target, gradient, place, as: V.self) || holdsBack(target, gradient, last, as: V.self)
      || holdsBack(target + arguments.targetStride, gradient, place, as: V.self)
      || holdsBack(target + arguments.targetStride, gradient, last, as: V.self)
  }
  #if BATCHLOSS_X86_V4
    let least = 0
  #else
    let least = splitLength
  #endif
  for lead in least..<least + 64 {
    let place = lead * V.laneCount
    if !holdsBackRows(arguments.inputGradient, place) && !holdsBackRows(arguments.targetGradient, place) {
      return place
    }
  }
  return (least + 4) * V.laneCount
}

/// The sums of a row. The exponentials and the differences u − x, divided by the temperature, are kept. A probability of 0
/// counts 0 whatever the other is: where e^u is 0, a difference is finite or +∞, which ``productWithoutZeros`` mends.
/// The gradients that wait are written, `lead` elements ahead.
@inline(never)
private func klDivergenceSums<V: KernelVector, Temperature: Tempering>(
  _ input: UnsafePointer<V.Lane>, _ target: UnsafePointer<V.Lane>, _ columns: Int,
  _ shifts: KLDivergenceShifts<V.Lane>, _ inverseTemperature: V.Lane, to kept: KLDivergenceScratch<V.Lane>,
  nextInput: UnsafePointer<V.Lane>, nextTarget: UnsafePointer<V.Lane>,
  writing waiting: KLDivergenceGradients<V.Lane>, ahead lead: Int, _ streams: Bool,
  _ partialLines: inout KLDivergencePartialLines<V.Lane>, _: Temperature.Type, as: V.Type
) -> KLDivergenceSums<V.Lane> {
  let scale = V(lane: inverseTemperature)
  // No difference is lower where e^u is not 0, because x is no larger than its shift.
  let excess = V.Lane(shifts.excess * Double(inverseTemperature))
  let lowest = V(lane: excess.isFinite ? V.lowestExponent - excess : -V.Lane.greatestFiniteMagnitude)
  let (inputShift, targetShift) = (V(lane: shifts.input), V(lane: shifts.target))
  let reference = V(lane: shifts.reference)
  // Into locals, because for all the compiler knows the stores below may change what arguments point to.
  let (inputExponentials, targetExponentials) = (kept.inputExponentials, kept.targetExponentials)
  let differences = kept.differences
  var (largestInput, largestTarget) = (V(lane: -.infinity), V(lane: -.infinity))
  var inputAtLargest = largestInput
  var (inputSum, targetSum, productSum) = (LaneSum<V>(), LaneSum<V>(), LaneSum<V>())

  let (inputLines, targetLines) = klDivergenceEnds(
    waiting, in: kept, columns, streams, &partialLines, as: V.self)
  let haveSameLines = inputLines == targetLines
  let inputOutput = waiting.input ?? inputExponentials
  let targetOutput = waiting.target ?? targetExponentials
  let (inputStart, targetStart) = (inputLines.start + lead, targetLines.start + lead)
  let (inputEnd, targetEnd) = (inputLines.end, targetLines.end)
  @inline(__always)
  func writeInputGradient(at place: Int) {
    guard place < inputEnd else { return }
    waiting.inputGradient(kept, place, V.laneCount, as: V.self).store(inputOutput + place, streams: streams)
  }
  @inline(__always)
  func writeTargetGradient(at place: Int) {
    guard place < targetEnd else { return }
    waiting.targetGradient(kept, place, V.laneCount, as: V.self).store(targetOutput + place, streams: streams)
  }
  /// What both have in common once, where they are written at the same time.
  @inline(__always)
  func writeGradients(_ index: Int, sameLines: Bool, streams: Bool) {
    guard sameLines else {
      writeInputGradient(at: inputStart + index)
      writeTargetGradient(at: targetStart + index)
      return
    }
    let place = inputStart + index
    guard place < inputEnd else { return }
    let term: V = waiting.targetTerm(kept, place, V.laneCount)
    waiting.inputGradient(kept, term, place, V.laneCount).store(inputOutput + place, streams: streams)
    waiting.targetGradient(kept, term, place, V.laneCount).store(targetOutput + place, streams: streams)
  }

  @inline(__always)
  func targetDifference(_ index: Int, _ lanes: Int) -> V {
    loadLanes(target + index, lanes, padding: -.infinity, as: V.self) - targetShift
  }
  @inline(__always)
  func loadInput(_ index: Int, _ lanes: Int) -> V {
    loadLanes(input + index, lanes, padding: -.infinity, as: V.self)
  }
  @inline(__always)
  func keepTarget(_ index: Int, _ lanes: Int, _ du: V) -> V {
    let f = V.exp(ofSummand: Temperature.scaled(du, scale))
    storeLanes(f, targetExponentials + index, lanes)
    targetSum.lanes = targetSum.lanes + f
    return f
  }
  @inline(__always)
  func keepInput(_ index: Int, _ lanes: Int, _ x: V, _ f: V, _ du: V) {
    let e = V.exp(ofSummand: Temperature.scaled(x - inputShift, scale))
    storeLanes(e, inputExponentials + index, lanes)
    inputSum.lanes = inputSum.lanes + e
    // Of NaN, where both are −∞, `maximum` yields its left operand.
    let difference = V.maximum(lowest, Temperature.scaled(du - (x - reference), scale))
    storeLanes(difference, differences + index, lanes)
    productSum.lanes = V.multiplyAdd(f, difference, productSum.lanes)
    let nextX = loadLanes(nextInput + index, lanes, padding: -.infinity, as: V.self)
    let nextU = loadLanes(nextTarget + index, lanes, padding: -.infinity, as: V.self)
    inputAtLargest = inputAtLargest.replacing(with: nextX, where: largestTarget .< nextU)
    largestInput = .maximum(largestInput, nextX)
    largestTarget = .maximum(largestTarget, nextU)
  }
  @inline(__always)
  func flush() {
    inputSum.flush()
    targetSum.flush()
    productSum.flush()
  }

  var index = 0
  #if BATCHLOSS_X86_V4
    @inline(__always)
    func addVectors(to end: Int, sameLines: Bool, streams: Bool) {
      while index < end {
        let (du, x) = (targetDifference(index, V.laneCount), loadInput(index, V.laneCount))
        writeGradients(index, sameLines: sameLines, streams: streams)
        keepInput(index, V.laneCount, x, keepTarget(index, V.laneCount, du), du)
        prefetch(after: nextInput + index)
        prefetch(after: nextTarget + index)
        index += V.laneCount
      }
    }
  #endif
  while index < lead {
    writeInputGradient(at: inputLines.start + index)
    writeTargetGradient(at: targetLines.start + index)
    index += V.laneCount
  }
  let whole = columns & -V.laneCount
  index = 0
  while index < whole {
    // Lanes are added to float64 before their rounding errors can grow.
    let end = min(index + 32 * V.laneCount, whole)
    prefetchPages(after: nextInput + index, end - index)
    prefetchPages(after: nextTarget + index, end - index)
    if streams {
      prefetchPages(after: inputOutput + index, end - index)
      prefetchPages(after: targetOutput + index, end - index)
    }
    #if BATCHLOSS_X86_V4
      // With constants, so that the usual loop has no branch for the others.
      if haveSameLines && streams {
        addVectors(to: end, sameLines: true, streams: true)
      } else {
        addVectors(to: end, sameLines: haveSameLines, streams: streams)
      }
    #else
      // All of it in one loop keeps more values alive than there are registers.
      while index < end {
        let start = index
        let stop = min(index + splitLength * V.laneCount, end)
        while index < stop {
          let du = targetDifference(index, V.laneCount)
          writeTargetGradient(at: targetStart + index)
          _ = keepTarget(index, V.laneCount, du)
          storeLanes(du, differences + index, V.laneCount)
          prefetch(after: nextTarget + index)
          index += V.laneCount
        }
        index = start
        while index < stop {
          let x = loadInput(index, V.laneCount)
          writeInputGradient(at: inputStart + index)
          keepInput(index, V.laneCount, x, .load(targetExponentials + index), .load(differences + index))
          prefetch(after: nextInput + index)
          index += V.laneCount
        }
      }
    #endif
    flush()
  }
  if index < columns {
    let lanes = columns - index
    let (du, x) = (targetDifference(index, lanes), loadInput(index, lanes))
    keepInput(index, lanes, x, keepTarget(index, lanes, du), du)
    flush()
  }
  return (
    inputSum.total, targetSum.total, productSum.total,
    KLDivergenceShifts(largestInput, largestTarget, inputAtLargest)
  )
}

/// Σ e^u·(u − x) relative to another reference, in float64, or where 0·∞ was in it: a probability of the target that is 0
/// in this format, where that of the input is as well. The kept differences become 0 there.
@inline(never)
private func productWithoutZeros<V: KernelVector>(
  _ input: UnsafePointer<V.Lane>, _ target: UnsafePointer<V.Lane>, _ columns: Int,
  _ shifts: KLDivergenceShifts<V.Lane>, _ inverseTemperature: V.Lane, in kept: KLDivergenceScratch<V.Lane>,
  as: V.Type
) -> Double {
  let zero = V(lane: 0)
  let (reference, targetShift) = (V(lane: shifts.reference), V(lane: shifts.target))
  let inverse = V(lane: inverseTemperature)
  var sum = 0.0
  var index = 0
  while index < columns {
    let lanes = min(V.laneCount, columns - index)
    let e = loadLanes(UnsafePointer(kept.targetExponentials) + index, lanes, as: V.self)
    let du = loadLanes(target + index, lanes, as: V.self) - targetShift
    let dx = loadLanes(input + index, lanes, as: V.self) - reference
    let difference = ((du - dx) * inverse).replacing(with: zero, where: e .== zero)
    storeLanes(difference, kept.differences + index, lanes)
    sum += (e * difference).total
    index += lanes
  }
  return sum
}

/// Writes what of waiting gradients fills no whole line, or lets it wait for the next row.
/// - Returns: The whole lines of both.
@inline(__always)
private func klDivergenceEnds<V: KernelVector>(
  _ waiting: KLDivergenceGradients<V.Lane>, in kept: KLDivergenceScratch<V.Lane>, _ columns: Int, _ streams: Bool,
  _ partialLines: inout KLDivergencePartialLines<V.Lane>, as: V.Type
) -> (input: (start: Int, end: Int), target: (start: Int, end: Int)) {
  let input = wholeLines(waiting.input, columns, streams, as: V.self)
  if let gradient = waiting.input {
    writeBeginning(
      gradient, columns, (input.start, input.start, input.end), streams: streams, &partialLines.input, as: V.self
    ) {
      waiting.inputGradient(kept, $0, $1, as: V.self)
    }
  }
  let target = wholeLines(waiting.target, columns, streams, as: V.self)
  if let gradient = waiting.target {
    writeBeginning(
      gradient, columns, (target.start, target.start, target.end), streams: streams, &partialLines.target,
      as: V.self
    ) {
      waiting.targetGradient(kept, $0, $1, as: V.self)
    }
  }
  return (input, target)
}

/// Writes gradients after which no row comes, and what waits.
@inline(never)
private func klDivergenceRest<V: KernelVector>(
  _ waiting: KLDivergenceGradients<V.Lane>, in kept: KLDivergenceScratch<V.Lane>, _ columns: Int, _ streams: Bool,
  _ partialLines: inout KLDivergencePartialLines<V.Lane>, as: V.Type
) {
  if let gradient = waiting.input {
    writeRow(gradient, columns, streams: streams, &partialLines.input, as: V.self) {
      waiting.inputGradient(kept, $0, $1, as: V.self)
    }
  }
  if let gradient = waiting.target {
    writeRow(gradient, columns, streams: streams, &partialLines.target, as: V.self) {
      waiting.targetGradient(kept, $0, $1, as: V.self)
    }
  }
  partialLines.input.flush(as: V.self)
  partialLines.target.flush(as: V.self)
}

/// The gradient of the target where the divergence is infinite or NaN; 0 where the target's probability is 0.
@inline(never)
private func writeUnboundedGradient<V: KernelVector>(
  _ gradient: UnsafeMutablePointer<V.Lane>, _ columns: Int, _ waiting: KLDivergenceGradients<V.Lane>,
  in kept: KLDivergenceScratch<V.Lane>, _ streams: Bool, as: V.Type
) {
  forEachVector(from: 0, to: columns, destination: gradient, streams: streams, as: V.self) { index, lanes in
    let e = loadLanes(UnsafePointer(kept.targetExponentials) + index, lanes, as: V.self)
    let difference = loadLanes(UnsafePointer(kept.differences) + index, lanes, as: V.self)
    let logarithm = V(lane: waiting.offset) - difference
    return (e * V(lane: waiting.targetFactor) * logarithm).replacing(with: V(lane: 0), where: e .== V(lane: 0))
  }
}
