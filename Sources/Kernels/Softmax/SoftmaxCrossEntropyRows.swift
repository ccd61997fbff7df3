import BatchLossFormulas
import BatchLossKernelInterface
import Glibc

/// Softmax cross-entropy of rows too wide for one lane each: lanes run along the row.
///
/// A row is read in segments that stay in the first-level cache. Each segment finds its own maximum and stores
/// its exponentials relative to it, so memory is read once; the last pass scales every segment to the maximum
/// of the row. With streaming stores the exponentials wait in scratch memory, else in the gradient's row.
@inline(__always)
func softmaxCrossEntropyRows<V: KernelVector>(
  _ arguments: inout SoftmaxCrossEntropyArguments<V.Lane>, as: V.Type
) {
  var sum = 0.0
  var active = 0
  // The maximum of a segment that was read ahead, and where it starts.
  var ahead = (start: arguments.scratch, largest: V.Lane(0))
  for row in 0..<arguments.rows {
    var weight: V.Lane = 1
    if let weights = arguments.sampleWeights { weight = weights[row] }
    let isIgnored = weight == 0 || (arguments.labels != nil && arguments.labels![row] < 0)
    let loss: Double
    if isIgnored {
      loss = 0
      if let gradient = arguments.gradient {
        let start = gradient + row * arguments.gradientStride
        forEachVector(
          from: 0, to: arguments.columns, destination: start, streams: arguments.streams, as: V.self
        ) { _, _ in V(lane: 0) }
      }
    } else {
      loss = softmaxCrossEntropyRow(arguments, row, Double(weight), &ahead, as: V.self)
    }
    sum += loss
    if loss > 0 { active += 1 }
    if let losses = arguments.losses { losses[row] = V.Lane(loss) }
  }
  arguments.sum = sum
  arguments.active = active
}

@inline(__always)
private func softmaxCrossEntropyRow<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: Int, _ weight: Double,
  _ ahead: inout (start: UnsafeMutablePointer<V.Lane>, largest: V.Lane), as: V.Type
) -> Double {
  let columns = arguments.columns
  let padded = (columns + 15) & ~15
  let logits = arguments.logits + row * arguments.logitsStride
  let gradient = advance(arguments.gradient, row * arguments.gradientStride)
  let exponentials = arguments.streams ? arguments.scratch : gradient ?? arguments.scratch
  let capped = arguments.scratch + padded
  let maxima = arguments.scratch + 2 * padded
  var label = -1
  if let labels = arguments.labels { label = Int(labels[row]) }
  let probabilities = advance(arguments.probabilities, row * arguments.probabilitiesStride)
  let classWeights = arguments.classWeights
  let smoothing = arguments.labelSmoothing / Double(columns)
  let source = arguments.softCap == 0 ? logits : UnsafePointer(capped)

  // Pass A: segment maxima, exponentials relative to them, and the part of the loss linear in the logits.
  // The logit of the label is taken first, since the exponentials may replace the logits.
  var labelLogit = 0.0
  if label >= 0 {
    labelLogit = Double(logits[label])
    if arguments.softCap != 0 { labelLogit = arguments.softCap * tanh(labelLogit / arguments.softCap) }
  }
  let needsLinear = probabilities != nil || smoothing != 0
  var pivot: V.Lane = 0
  var linear = 0.0
  var targetSum = 0.0
  var largest = -V.Lane.infinity
  var scaledSum = 0.0  // Σ e^(z − largest), rescaled whenever a larger element comes
  var start = 0
  var segment = 0
  while start < columns {
    let count = min(SoftmaxPlan.segment, columns - start)
    if arguments.softCap != 0 {
      capLogits(logits + start, capped + start, count, V.Lane(arguments.softCap), as: V.self)
    }
    var maximum =
      ahead.start == source + start ? ahead.largest : largestElement(source + start, count, as: V.self)
    maxima[segment] = maximum
    // A segment of nothing but −∞ has exponentials of 0, not NaN.
    if maximum == -.infinity { maximum = 0 }
    if start == 0 { pivot = maximum }
    if needsLinear {
      let sums = linearSums(
        source + start, count, pivot: pivot, smoothing: V.Lane(smoothing),
        keep: V.Lane(1 - arguments.labelSmoothing),
        probabilities: advance(probabilities, start), classWeights: advance(classWeights, start),
        as: V.self)
      linear += sums.linear
      targetSum += sums.weight
    }
    let next = nextSegment(arguments, row, start, count, source)
    let segmentSum: Double
    if gradient != nil {
      let destination = exponentials + start
      let result = exponentialSum(
        source + start, count, shift: maximum, scale: 1, next: next, as: V.self
      ) { index, lanes, e in storeLanes(e, destination + index, lanes) }
      segmentSum = result.sum
      ahead.largest = result.nextLargest
    } else {
      let result = exponentialSum(
        source + start, count, shift: maximum, scale: 1, next: next, as: V.self
      ) { _, _, _ in }
      segmentSum = result.sum
      ahead.largest = result.nextLargest
    }
    // Capped logits lie at the same place for every row.
    if arguments.softCap == 0 { ahead.start = UnsafeMutablePointer(mutating: next) }
    let larger = largest < maxima[segment] ? maxima[segment] : largest
    if larger != -.infinity {
      let keep = largest == -.infinity ? 0 : exp(Double(largest) - Double(larger))
      let added = maxima[segment] == -.infinity ? segmentSum : segmentSum * exp(Double(maximum) - Double(larger))
      scaledSum = (scaledSum == 0 ? 0 : scaledSum * keep) + added
    } else {
      scaledSum += segmentSum
    }
    largest = larger
    start += count
    segment += 1
  }
  // All logits −∞: no distribution.
  if largest == -.infinity { scaledSum = .nan }
  let logSum = log(scaledSum)  // lse − largest
  let logSumExp = logSum + Double(largest)

  // The loss: (Σ τ)·lse − Σ τ·z, both relative to the maximum.
  let labelWeight: Double
  if label >= 0 {
    let classWeight = classWeights == nil ? 1 : Double(classWeights![label])
    labelWeight = (1 - arguments.labelSmoothing) * classWeight
    targetSum = labelWeight + smoothing * arguments.classWeightSum
    let own = labelWeight == 0 ? 0 : labelWeight * (logSum - (labelLogit - Double(largest)))
    // Σ τ·(z − pivot) moved to the maximum.
    let spread =
      smoothing == 0
      ? 0
      : smoothing * arguments.classWeightSum * (logSum + (Double(largest) - Double(pivot))) - linear
    linear = own + spread
  } else {
    labelWeight = 0
    linear = targetSum * (logSum + (Double(largest) - Double(pivot))) - linear
  }
  let loss = weight * (linear + arguments.zLoss * logSumExp * logSumExp)
  guard let gradient else { return loss }

  // Pass B: scale the exponentials of each segment and subtract the targets.
  let outer = arguments.gradientScale * weight
  let factor = outer * (targetSum + 2 * arguments.zLoss * logSumExp) / scaledSum
  let labelTerm = V.Lane(outer * labelWeight)
  start = 0
  segment = 0
  while start < columns {
    let end = min(start + SoftmaxPlan.segment, columns)
    let maximum = maxima[segment] == -.infinity && largest != -.infinity ? 0 : maxima[segment]
    let relative = maxima[segment] == -.infinity && largest != -.infinity ? 0 : Double(maximum) - Double(largest)
    let scale = V(lane: V.Lane(factor * exp(relative)))
    writeGradient(
      arguments, from: start, to: end, scale: scale, outer: outer, exponentials: UnsafePointer(exponentials),
      gradient: gradient, probabilities: probabilities, capped: UnsafePointer(capped), label: label,
      labelTerm: labelTerm, as: V.self)
    start = end
    segment += 1
  }
  return loss
}

/// The segment to read ahead: the next one of the row or the first of the next row, if it is as long as this one.
/// Else this one again, which costs little and will not be asked for.
@inline(__always)
private func nextSegment<Lane: KernelScalar>(
  _ arguments: SoftmaxCrossEntropyArguments<Lane>, _ row: Int, _ start: Int, _ count: Int,
  _ source: UnsafePointer<Lane>
) -> UnsafePointer<Lane> {
  let end = start + count
  guard arguments.softCap == 0 else { return source + start }
  if end == arguments.columns {
    guard start == 0, row + 1 < arguments.rows else { return source + start }
    return source + arguments.logitsStride
  }
  return min(SoftmaxPlan.segment, arguments.columns - end) == count ? source + end : source + start
}

/// One segment of pass B.
@inline(__always)
private func writeGradient<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, from start: Int, to end: Int, scale: V, outer: Double,
  exponentials: UnsafePointer<V.Lane>, gradient: UnsafeMutablePointer<V.Lane>,
  probabilities: UnsafePointer<V.Lane>?, capped: UnsafePointer<V.Lane>, label: Int, labelTerm: V.Lane,
  as: V.Type
) {
  let smoothing = arguments.labelSmoothing / Double(arguments.columns)
  let inverseCap = V(lane: V.Lane(arguments.softCap == 0 ? 0 : 1 / arguments.softCap))
  let hasCap = arguments.softCap != 0

  @inline(__always)
  func write(_ from: Int, _ to: Int, _ target: (Int, Int) -> V) {
    forEachVector(from: from, to: to, destination: gradient, streams: arguments.streams, as: V.self) {
      index, lanes in
      let e = loadLanes(exponentials + index, lanes, as: V.self)
      var value = V.multiplyAdd(e, scale, target(index, lanes))
      if hasCap {
        let ratio = loadLanes(capped + index, lanes, as: V.self) * inverseCap
        value = value * (V(lane: 1) - ratio * ratio)
      }
      return value
    }
  }

  if let probabilities {
    let keep = V(lane: V.Lane(-outer * (1 - arguments.labelSmoothing)))
    let spread = V(lane: V.Lane(-outer * smoothing))
    if let classWeights = arguments.classWeights {
      write(start, end) { index, lanes in
        V.multiplyAdd(keep, loadLanes(probabilities + index, lanes, as: V.self), spread)
          * loadLanes(classWeights + index, lanes, as: V.self)
      }
    } else {
      write(start, end) { index, lanes in
        V.multiplyAdd(keep, loadLanes(probabilities + index, lanes, as: V.self), spread)
      }
    }
    return
  }

  let spread = V(lane: V.Lane(-outer * smoothing))
  // Streamed lines must not be touched again, so the label's line is written in its turn.
  let splits = arguments.streams && label >= start && label < end
  let borders = splits ? (label, label + 1) : (end, end)
  if smoothing != 0, let classWeights = arguments.classWeights {
    write(start, borders.0) { index, lanes in spread * loadLanes(classWeights + index, lanes, as: V.self) }
    write(borders.1, end) { index, lanes in spread * loadLanes(classWeights + index, lanes, as: V.self) }
  } else {
    write(start, borders.0) { _, _ in spread }
    write(borders.1, end) { _, _ in spread }
  }
  guard label >= start, label < end else { return }
  var slope: V.Lane = 1
  if hasCap {
    let ratio = capped[label] * inverseCap[0]
    slope = 1 - ratio * ratio
  }
  if splits {
    let classWeight = smoothing != 0 && arguments.classWeights != nil ? arguments.classWeights![label] : 1
    gradient[label] = (exponentials[label] * scale[0] + spread[0] * classWeight - labelTerm) * slope
  } else {
    gradient[label] -= labelTerm * slope
  }
}

/// c·tanh(x/c) of every element.
@inline(__always)
private func capLogits<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ destination: UnsafeMutablePointer<V.Lane>, _ count: Int, _ cap: V.Lane,
  as: V.Type
) {
  let (cap, inverse) = (V(lane: cap), V(lane: 1 / cap))
  forEachVector(from: 0, to: count, destination: destination, streams: false, as: V.self) { index, lanes in
    cap * V.tanh(loadLanes(source + index, lanes, as: V.self) * inverse)
  }
}

/// Σ τ·(z − pivot) and, for probabilities, Σ τ; a target of 0 counts 0 even on −∞.
@inline(__always)
private func linearSums<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ count: Int, pivot: V.Lane, smoothing: V.Lane, keep: V.Lane,
  probabilities: UnsafePointer<V.Lane>?, classWeights: UnsafePointer<V.Lane>?, as: V.Type
) -> (linear: Double, weight: Double) {
  let (pivot, smoothing, keep) = (V(lane: pivot), V(lane: smoothing), V(lane: keep))
  var (linear, weight) = (0.0, 0.0)
  var index = 0
  while index < count {
    let end = min(index + 32 * V.laneCount, count)
    var (lanesOfLinear, lanesOfWeight) = (V(lane: 0), V(lane: 0))
    while index < end {
      let lanes = min(V.laneCount, count - index)
      var target = smoothing
      if let probabilities {
        target = V.multiplyAdd(loadLanes(probabilities + index, lanes, as: V.self), keep, smoothing)
      }
      if let classWeights { target = target * loadLanes(classWeights + index, lanes, as: V.self) }
      if lanes < V.laneCount { target = V(lane: 0).replacing(with: target, where: V.first(lanes)) }
      let term = target * (loadLanes(source + index, lanes, as: V.self) - pivot)
      lanesOfLinear = lanesOfLinear + term.replacing(with: V(lane: 0), where: target .== V(lane: 0))
      lanesOfWeight = lanesOfWeight + target
      index += lanes
    }
    linear += lanesOfLinear.total
    weight += lanesOfWeight.total
  }
  return (linear, weight)
}
