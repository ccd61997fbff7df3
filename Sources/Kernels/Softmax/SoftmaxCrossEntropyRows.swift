import BatchLossFormulas
import BatchLossKernelInterface
import Glibc

/// Softmax cross-entropy of rows too wide for one lane each: lanes run along the row.
///
/// A row is read in segments that stay in the first-level cache. Each segment has its exponentials relative to its
/// own maximum, so memory is read once; the gradient scales every segment to the maximum of the row.
///
/// One loop does three things at once, so that memory and arithmetic keep each other company: it takes the
/// exponentials of this row, looks for the maximum of the segment that comes next, and writes the gradient of the
/// row before, a little behind. Exponentials wait for that in the gradient's row, with streaming stores in scratch memory.
/// Long rows have neither segments nor exponentials that wait: see LongRows.swift.
@inline(__always)
func softmaxCrossEntropyRows<V: KernelVector>(
  _ arguments: inout SoftmaxCrossEntropyArguments<V.Lane>, as: V.Type
) {
  if arguments.segmentCount == 1 && arguments.softCap == 0 {
    evaluateRows(&arguments, OneSegment.self, as: V.self)
  } else {
    evaluateRows(&arguments, AnyRows.self, as: V.self)
  }
}

/// What is known of rows when the code is compiled: with a thousand classes a third of all instructions was outside the
/// loop, much of it for what only other rows have.
private protocol RowForm {
  /// Whether they are one segment, without a soft cap.
  static var isOneSegment: Bool { get }
}

private enum OneSegment: RowForm {
  static var isOneSegment: Bool { true }
}

private enum AnyRows: RowForm {
  static var isOneSegment: Bool { false }
}

@inline(never)
private func evaluateRows<V: KernelVector, Form: RowForm>(
  _ arguments: inout SoftmaxCrossEntropyArguments<V.Lane>, _: Form.Type, as: V.Type
) {
  let padded = SoftmaxPlan.padded(arguments.columns)
  let segments = SoftmaxPlan.padded(arguments.segmentCount)
  let capped = arguments.scratch + SoftmaxPlan.exponentialCount(arguments.columns)
  let scales = capped + 4 * padded
  // One is evaluated while the other waits, in turn. Neither is copied, hence `inout` below: a copy would wait for the
  // stores of what it is made of, and so for all streaming stores before them.
  var even = SoftmaxRow(
    exponentials: arguments.scratch, scales: scales, capped: capped, rests: capped + padded)
  var odd = SoftmaxRow(
    exponentials: arguments.scratch, scales: scales + segments, capped: capped + 2 * padded,
    rests: capped + 3 * padded)
  var isOdd = false
  let maxima = scales + 2 * segments
  var partialLine = PartialLine(scales + 3 * segments)
  var losses = PendingLosses(
    scales + (3 * segments + PartialLineMemory.count), to: arguments.losses, zLoss: arguments.zLoss)

  let fixed = arguments
  // The maximum of a segment that was read ahead, and where it starts.
  var ahead = (start: UnsafePointer(arguments.scratch), largest: V.Lane(0))
  for index in 0..<arguments.rows {
    var weight: V.Lane = 1
    if let weights = arguments.sampleWeights { weight = weights[index] }
    if weight == 0 || (arguments.labels != nil && arguments.labels![index] < 0) {
      if let gradient = arguments.gradient {
        let start = gradient + index * arguments.gradientStride
        forEachVector(
          from: 0, to: arguments.columns, destination: start, streams: arguments.streams, as: V.self
        ) { _, _ in V(lane: 0) }
      }
      losses.append((x: 1, c: 0, a: 0, b: 0), 0, as: V.self)
    } else {
      if isOdd {
        evaluate(
          fixed, index, Double(weight), &odd, &even, maxima, &ahead, &partialLine, &losses, Form.self, as: V.self)
      } else {
        evaluate(
          fixed, index, Double(weight), &even, &odd, maxima, &ahead, &partialLine, &losses, Form.self, as: V.self)
      }
      isOdd.toggle()
    }
  }
  losses.finish(as: V.self)
  if isOdd {
    writeLast(&even, &odd, fixed, &partialLine, Form.self, as: V.self)
  } else {
    writeLast(&odd, &even, fixed, &partialLine, Form.self, as: V.self)
  }
  partialLine.flush(as: V.self)
  arguments.sum = losses.sum
  arguments.active = losses.active
}

/// Evaluates one row, whose gradient and loss then wait, and writes the gradient of the row before.
@inline(never)
private func evaluate<V: KernelVector, Form: RowForm>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ index: Int, _ weight: Double,
  _ row: inout SoftmaxRow<V.Lane>, _ waiting: inout SoftmaxRow<V.Lane>, _ maxima: UnsafeMutablePointer<V.Lane>,
  _ ahead: inout (start: UnsafePointer<V.Lane>, largest: V.Lane), _ partialLine: inout PartialLine<V.Lane>,
  _ losses: inout PendingLosses<V.Lane>, _: Form.Type, as: V.Type
) {
  let isLong = !Form.isOneSegment && isLong(arguments)
  let hasCap = !Form.isOneSegment && arguments.softCap != 0
  row.logits = arguments.logits + index * arguments.logitsStride
  row.gradient = advance(arguments.gradient, index * arguments.gradientStride)
  row.probabilities = advance(arguments.probabilities, index * arguments.probabilitiesStride)
  if let gradient = row.gradient, !arguments.streams, !isLong {
    row.exponentials = gradient
  } else {
    row.firstPlace = waiting.firstPlace == 0 ? arguments.segmentCount : waiting.firstPlace - 1
    row.exponentials = arguments.scratch + row.firstPlace * arguments.segmentSize
  }

  // The logit of the label is taken first, since the exponentials may replace the logits.
  var labelLogit = 0.0
  if let labels = arguments.labels {
    row.label = Int(labels[index])
    labelLogit = Double(row.logits[row.label])
    if hasCap { labelLogit = cappedLogit(labelLogit, arguments, as: V.self) }
  }

  let sums: SoftmaxSums<V.Lane>
  if Form.isOneSegment {
    sums = oneSegmentSums(arguments, index, &row, &waiting, maxima, &ahead, &partialLine, as: V.self)
  } else if isLong {
    sums = longRowSums(arguments, row.logits, &waiting, &partialLine, as: V.self)
  } else {
    sums = segmentedSums(arguments, index, &row, &waiting, maxima, &ahead, &partialLine, as: V.self)
  }
  addLabelTerm(&waiting, arguments, partialLine, Form.self, as: V.self)
  waiting.gradient = nil
  var (scaledSum, targetSum) = (sums.scaledSum, sums.targetSum)
  let (shift, largest) = (Double(sums.shift), sums.largest)
  // All logits −∞: no distribution.
  if largest == -.infinity { scaledSum = .nan }
  // log x + c is the log-sum-exp.
  var loss = (x: scaledSum, c: shift, a: targetSum, b: 0.0)
  var labelWeight = 0.0
  // Of the label of a confident row, whose slope is a small difference: to more digits than a lane holds.
  var ownExponential: Double?
  if arguments.labels != nil {
    // The loss: w·(lse − z) of the label and Σ τ·(lse − z) of the smoothed targets, both relative to the shift.
    labelWeight = 1 - arguments.labelSmoothing
    if let classWeights = arguments.classWeights { labelWeight *= Double(classWeights[row.label]) }
    let smoothedSum = arguments.smoothing * arguments.classWeightSum
    targetSum = labelWeight + smoothedSum
    loss.a = targetSum
    if smoothedSum != 0 { loss.b = smoothedSum * (shift - Double(sums.pivot)) - sums.linear }
    let labelDistance = labelLogit - shift
    let isTop = hasCap ? row.capped[row.label] == largest : labelLogit == Double(largest)
    let own = isTop ? (Form.isOneSegment || labelDistance == 0 ? 1 : exp(labelDistance)) : 0
    if scaledSum < 2 * own {
      let others = exponentialsBesideLabel(arguments, &row, sums.shift, scaledSum, isLong, as: V.self)
      scaledSum = own + others
      ownExponential = own
      // The logarithm now, as the distance to the logit of the label, which a rounded sum would have lost.
      let logarithm = log1p(others / own)
      loss.b += labelWeight * logarithm + (targetSum - labelWeight) * (labelDistance + logarithm)
      (loss.x, loss.c, loss.a) = (1, loss.c + labelDistance + logarithm, 0)
    } else if labelWeight != 0 {
      loss.b -= labelWeight * labelDistance
    }
  } else {
    loss.b = targetSum * (shift - Double(sums.pivot)) - sums.linear
  }
  losses.append(loss, weight, as: V.self)
  guard row.gradient != nil else { return }

  let outer = arguments.gradientScale * weight
  // Without waiting for a logarithm that plays no part.
  var slope = targetSum
  if arguments.zLoss != 0 { slope += 2 * arguments.zLoss * (log(loss.x) + loss.c) }
  let factor = outer * slope / scaledSum
  if isLong {
    setLongRowGradient(
      &row, largest, factor: factor * ratio(largest, sums.shift), term: outer * labelWeight, as: V.self)
    return
  }
  if Form.isOneSegment {
    row.scales[0] = V.Lane(factor)
  } else {
    for segment in 0..<arguments.segmentCount {
      let maximum = maxima[segment]
      let isEmpty = maximum == -.infinity && largest != -.infinity
      row.scales[segment] = V.Lane(factor * (isEmpty ? 1 : ratio(maximum, largest)))
    }
  }
  row.targetScale = V.Lane(-outer)
  row.labelTerm = 0
  guard arguments.labels != nil else { return }
  // By the factor before it was rounded: near p = 1 this is a difference of what is almost equal.
  let segment = Form.isOneSegment || arguments.segmentCount == 1 ? 0 : row.label / arguments.segmentSize
  let part = labelWeight * scaledSum / (Form.isOneSegment ? slope : slope * ratio(maxima[segment], largest))
  let exponentials = exponentials(of: row, segment, arguments)
  let place = row.label - segment * arguments.segmentSize
  let carried = V.Lane((ownExponential ?? Double(exponentials[place])) - part)
  // A factor that is no normal number has lost digits.
  if carried.isFinite, row.scales[segment].isNormal {
    // A whole vector, which a load of it need not wait for.
    let start = place & -V.laneCount
    let count = arguments.columns - (row.label - (place - start))
    var vector = loadRest(UnsafePointer(exponentials) + start, count, as: V.self)
    vector[place - start] = carried
    storeRest(vector, exponentials + start, count)
  } else {
    row.labelTerm = V.Lane(outer * labelWeight)
  }
}

/// The logit of a label under the cap that the lanes have.
@inline(never)
private func cappedLogit<V: KernelVector>(
  _ logit: Double, _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, as: V.Type
) -> Double {
  let cap = widen(softCap(arguments, as: V.self).cap[0])
  return cap * tanh(logit / cap)
}

/// Where the exponentials of a segment are. In scratch memory they take the place that the segment before had of the row
/// before, whose gradient has been written by then.
@inline(__always)
func exponentials<Lane: KernelScalar>(
  of row: SoftmaxRow<Lane>, _ segment: Int, _ arguments: SoftmaxCrossEntropyArguments<Lane>
) -> UnsafeMutablePointer<Lane> {
  let places = arguments.segmentCount + 1
  return row.exponentials + (row.firstPlace + segment < places ? segment : segment - places) * arguments.segmentSize
}

/// What a row adds up to: Σ e^(z − shift) and, where classes beside the label have targets, Σ τ·(z − pivot) and Σ τ.
struct SoftmaxSums<Lane: KernelScalar> {
  var largest = -Lane.infinity
  /// The largest element, or one not far below.
  var shift = -Lane.infinity
  /// Rescaled whenever the shift rises.
  var scaledSum = 0.0
  var pivot: Lane = 0
  var linear = 0.0
  var targetSum = 0.0
}

/// The sums of a row of one segment, while the gradient of the waiting row is written.
@inline(__always)
private func oneSegmentSums<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ index: Int, _ row: inout SoftmaxRow<V.Lane>,
  _ waiting: inout SoftmaxRow<V.Lane>, _ maxima: UnsafeMutablePointer<V.Lane>,
  _ ahead: inout (start: UnsafePointer<V.Lane>, largest: V.Lane), _ partialLine: inout PartialLine<V.Lane>,
  as: V.Type
) -> SoftmaxSums<V.Lane> {
  let (logits, columns) = (row.logits, arguments.columns)
  let maximum = ahead.start == logits ? ahead.largest : largestElement(logits, columns, as: V.self)
  maxima[0] = maximum
  // Nothing but −∞ has exponentials of 0, not NaN.
  let shift = maximum == -.infinity ? 0 : maximum
  let hasNext = index + 1 < arguments.rows
  let next = ReadAhead(
    start: hasNext ? logits + arguments.logitsStride : logits, count: hasNext ? columns : V.laneCount, as: V.self)
  let sums = segmentSums(arguments, &row, &waiting, logits, 0, shift: shift, ahead: next, &partialLine, as: V.self)
  ahead = (next.start, sums.nextLargest)
  return SoftmaxSums(
    largest: maximum, shift: maximum, scaledSum: sums.sum, pivot: shift, linear: sums.linear,
    targetSum: sums.targetSum)
}

/// The sums of a row, while the gradient of the waiting row is written, segment by segment.
@inline(__always)
private func segmentedSums<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ index: Int, _ row: inout SoftmaxRow<V.Lane>,
  _ waiting: inout SoftmaxRow<V.Lane>, _ maxima: UnsafeMutablePointer<V.Lane>,
  _ ahead: inout (start: UnsafePointer<V.Lane>, largest: V.Lane), _ partialLine: inout PartialLine<V.Lane>,
  as: V.Type
) -> SoftmaxSums<V.Lane> {
  let columns = arguments.columns
  let hasCap = arguments.softCap != 0
  let source = hasCap ? UnsafePointer(row.capped) : row.logits
  var result = SoftmaxSums<V.Lane>()
  let size = arguments.segmentSize
  var start = 0
  var segment = 0
  while start < columns {
    let count = min(size, columns - start)
    var maximum: V.Lane
    if hasCap {
      maximum = capLogits(
        row.logits + start, row.capped + start, row.rests + start, count, softCap(arguments, as: V.self).cap)
    } else if ahead.start == source + start {
      maximum = ahead.largest
    } else {
      maximum = largestElement(source + start, count, as: V.self)
    }
    maxima[segment] = maximum
    // A segment of nothing but −∞ has exponentials of 0, not NaN.
    if maximum == -.infinity { maximum = 0 }
    if start == 0 { result.pivot = maximum }
    let next = nextSegment(arguments, index, end: start + count, row.logits, as: V.self)
    let sums = segmentSums(
      arguments, &row, &waiting, source, segment, shift: maximum, ahead: next, &partialLine, as: V.self)
    // Not the maximum of capped ones.
    if !hasCap { ahead = (next.start, sums.nextLargest) }
    result.linear += sums.linear
    if sums.targetSum != 0 { result.linear += sums.targetSum * (Double(maximum) - Double(result.pivot)) }
    result.targetSum += sums.targetSum

    let (largest, scaledSum) = (result.largest, result.scaledSum)
    let larger = largest < maxima[segment] ? maxima[segment] : largest
    if larger != -.infinity {
      let keep = largest == -.infinity ? 0 : ratio(largest, larger)
      let added = maxima[segment] == -.infinity ? sums.sum : sums.sum * ratio(maximum, larger)
      result.scaledSum = (scaledSum == 0 ? 0 : scaledSum * keep) + added
    } else {
      result.scaledSum += sums.sum
    }
    result.largest = larger
    start += count
    segment += 1
  }
  result.shift = result.largest
  return result
}

/// The exponentials of a row but for that of its label, which has the largest logit. A confident row has its loss from
/// these alone: they are what the sum holds beyond the label's exponential and the rounding errors of what was added to that
/// in its lane.
@inline(never)
private func exponentialsBesideLabel<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: inout SoftmaxRow<V.Lane>, _ shift: V.Lane,
  _ scaledSum: Double, _ isLong: Bool, as: V.Type
) -> Double {
  let label = row.label
  let size = isLong ? arguments.columns : arguments.segmentSize
  let start = label / size * size
  var end = min(start + size, arguments.columns)
  // Only those that were added to the same lanes.
  var index = start + (label - start) / sumStretch(V.self) * sumStretch(V.self)
  end = min(index + sumStretch(V.self), end)
  let source = arguments.softCap != 0 ? UnsafePointer(row.capped) : row.logits
  let (zero, shift) = (V(lane: 0), V(lane: shift))
  @inline(__always)
  func difference(_ index: Int, _ lanes: Int) -> V {
    let difference = loadLanes(source + index, lanes, padding: -.infinity, as: V.self) - shift
    return arguments.softCap == 0
      ? difference : difference + loadLanes(UnsafePointer(row.rests) + index, lanes, as: V.self)
  }
  let exponentials = UnsafePointer(exponentials(of: row, isLong ? 0 : label / size, arguments))
  var (all, others) = (zero, zero)
  while index < end {
    let lanes = min(V.laneCount, end - index)
    let e =
      isLong
      ? V.exp(ofSummand: difference(index, lanes))
      : loadLanes(exponentials + (index - start), lanes, as: V.self)
    all = all + e
    var other = e
    if index <= label && label < index + lanes { other[label - index] = 0 }
    others = others + other
    index += lanes
  }
  return max(0, scaledSum - (all.total - others.total))
}

/// e^(a − b); most rows have one segment, whose maximum is that of the row.
@inline(__always)
private func ratio<Lane: KernelScalar>(_ a: Lane, _ b: Lane) -> Double {
  a == b ? 1 : exp(Double(a) - Double(b))
}

/// The sums of one segment, while the gradient of the same segment of the waiting row is written; without `ahead`
/// only the gradient.
@inline(__always)
private func segmentSums<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: inout SoftmaxRow<V.Lane>,
  _ waiting: inout SoftmaxRow<V.Lane>,
  _ source: UnsafePointer<V.Lane>, _ segment: Int, shift: V.Lane, ahead: ReadAhead<V.Lane>?,
  _ partialLine: inout PartialLine<V.Lane>, as: V.Type
) -> (sum: Double, linear: Double, targetSum: Double, nextLargest: V.Lane) {
  if arguments.probabilities != nil || arguments.softCap != 0 {
    return generalSegmentSums(arguments, &row, &waiting, source, segment, shift, ahead, &partialLine, as: V.self)
  }
  if arguments.labelSmoothing != 0 {
    return smoothedSegmentSums(arguments, &row, &waiting, source, segment, shift, ahead, &partialLine, as: V.self)
  }
  let size = arguments.segmentSize
  let start = segment * size
  let count = min(size, arguments.columns - start)
  let gradient = WaitingGradient(
    output: advance(waiting.gradient, start),
    exponentials: UnsafePointer(exponentials(of: waiting, segment, arguments)),
    scale: waiting.gradient == nil ? 0 : waiting.scales[segment])
  guard let ahead else {
    writeGradient(gradient, count, streams: arguments.streams, &partialLine, as: V.self)
    return (0, 0, 0, 0)
  }
  let result = exponentialSum(
    source + start, count, shift: shift, to: exponentials(of: row, segment, arguments), ahead: ahead,
    writing: gradient, streams: arguments.streams, &partialLine, as: V.self)
  return (result.sum, 0, 0, result.nextLargest)
}

/// The label's part of a gradient, where it could not be put into the exponential.
@inline(__always)
private func addLabelTerm<V: KernelVector, Form: RowForm>(
  _ row: inout SoftmaxRow<V.Lane>, _ arguments: SoftmaxCrossEntropyArguments<V.Lane>,
  _ partialLine: PartialLine<V.Lane>, _: Form.Type, as: V.Type
) {
  guard let gradient = row.gradient else { return }
  if !Form.isOneSegment && isLong(arguments) {
    partialLine.location(gradient + row.label).pointee = row.labelTerm
  } else if row.labelTerm != 0 {
    var slope: V.Lane = 1
    if !Form.isOneSegment && arguments.softCap != 0 {
      let (cap, inverse) = softCap(arguments, as: V.self)
      slope = softCapSlope(V(lane: row.capped[row.label]), V(lane: row.rests[row.label]), cap, inverse: inverse)[0]
    }
    partialLine.location(gradient + row.label).pointee -= row.labelTerm * slope
  }
}

/// Writes the gradient of the last row.
@inline(__always)
private func writeLast<V: KernelVector, Form: RowForm>(
  _ waiting: inout SoftmaxRow<V.Lane>, _ row: inout SoftmaxRow<V.Lane>,
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>,
  _ partialLine: inout PartialLine<V.Lane>, _: Form.Type, as: V.Type
) {
  guard waiting.gradient != nil else { return }
  if isLong(arguments) {
    writeGradient(
      longRowGradient(&waiting), arguments.columns, streams: arguments.streams, &partialLine, as: V.self)
  } else {
    for segment in 0..<arguments.segmentCount {
      _ = segmentSums(
        arguments, &row, &waiting, UnsafePointer(arguments.scratch), segment, shift: 0, ahead: nil, &partialLine,
        as: V.self)
    }
  }
  addLabelTerm(&waiting, arguments, partialLine, Form.self, as: V.self)
}

/// The segment to read ahead: the next one of the row or the first of the next row. Where there is none, or none that
/// fills a vector, the first vector of this row, whose maximum will not be asked for.
@inline(__always)
private func nextSegment<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: Int, end: Int, _ logits: UnsafePointer<V.Lane>,
  as: V.Type
) -> ReadAhead<V.Lane> {
  let segment = arguments.segmentSize
  if end + V.laneCount <= arguments.columns {
    return ReadAhead(start: logits + end, count: min(segment, arguments.columns - end), as: V.self)
  }
  if end == arguments.columns, row + 1 < arguments.rows {
    return ReadAhead(start: logits + arguments.logitsStride, count: min(segment, arguments.columns), as: V.self)
  }
  return ReadAhead(start: logits, count: V.laneCount, as: V.self)
}
