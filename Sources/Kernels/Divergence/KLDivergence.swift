import BatchLossFormulas
import BatchLossKernelInterface
import Glibc

/// The KL divergence of one block of rows.
///
/// Logits on either side become exponentials in scratch memory, one row at a time, while they are in the
/// cache; no n×K intermediate exists.
@inline(__always)
func klDivergence<V: KernelVector>(_ arguments: inout KLDivergenceArguments<V.Lane>, as: V.Type) {
  if case .logits = arguments.inputForm, case .logits = arguments.targetForm {
    return klDivergenceOfLogits(&arguments, as: V.self)
  }
  let scratch = KLDivergenceScratch(arguments.scratch, columns: arguments.columns)
  var partialLines = (input: PartialLine(scratch.inputPartialLine), target: PartialLine(scratch.targetPartialLine))
  var sum = 0.0
  var active = 0
  for row in 0..<arguments.rows {
    var weight = 1.0
    if let weights = arguments.weights { weight = Double(weights[row]) }
    let loss: Double
    if weight == 0 {
      loss = 0
      let (input, target) = (arguments.inputGradient, arguments.targetGradient)
      if let input { clearRow(input + row * arguments.inputGradientStride, arguments, as: V.self) }
      if let target { clearRow(target + row * arguments.targetGradientStride, arguments, as: V.self) }
    } else {
      loss = klDivergenceRow(arguments, row, weight, &partialLines, as: V.self)
    }
    sum += loss
    if loss > 0 { active += 1 }
    if let losses = arguments.losses { losses[row] = V.Lane(loss) }
  }
  partialLines.input.flush(as: V.self)
  partialLines.target.flush(as: V.self)
  arguments.sum = sum
  arguments.active = active
}

/// Zeros for a row that counts for nothing.
@inline(__always)
func clearRow<V: KernelVector>(
  _ gradient: UnsafeMutablePointer<V.Lane>, _ arguments: KLDivergenceArguments<V.Lane>, as: V.Type
) {
  forEachVector(
    from: 0, to: arguments.columns, destination: gradient, streams: arguments.streams, as: V.self
  ) { _, _ in V(lane: 0) }
}

/// Shift, normaliser and its logarithm of a row of logits; exponentials are left in `destination`.
@inline(__always)
private func softmax<V: KernelVector>(
  _ logits: UnsafePointer<V.Lane>, _ columns: Int, _ inverseTemperature: V.Lane,
  _ destination: UnsafeMutablePointer<V.Lane>, next: UnsafePointer<V.Lane>?, as: V.Type
) -> (largest: V.Lane, sum: Double) {
  let largest = largestElement(logits, columns, as: V.self)
  let result = exponentialSum(
    logits, columns, shift: largest, scale: inverseTemperature, next: next ?? logits, as: V.self
  ) { index, lanes, e in
    storeLanes(e, destination + index, lanes)
  }
  return (largest, result.sum)
}

@inline(__always)
private func klDivergenceRow<V: KernelVector>(
  _ arguments: KLDivergenceArguments<V.Lane>, _ row: Int, _ weight: Double,
  _ partialLines: inout KLDivergencePartialLines<V.Lane>, as: V.Type
) -> Double {
  let columns = arguments.columns
  let input = arguments.input + row * arguments.inputStride
  let target = arguments.target + row * arguments.targetStride
  let scratch = KLDivergenceScratch(arguments.scratch, columns: columns)
  let (inputExponentials, targetExponentials) = (scratch.inputExponentials, scratch.targetExponentials)
  let inverseTemperature = V.Lane(1 / arguments.temperature)
  let square = arguments.temperature * arguments.temperature

  // log qₖ = inputScale·(xₖ − inputShift) − inputLog, and log p likewise.
  var (inputShift, inputScale): (V.Lane, V.Lane) = (0, 1)
  var (inputSum, inputLog) = (1.0, 0.0)
  if arguments.inputForm == .logits {
    let result = softmax(
      input, columns, inverseTemperature, inputExponentials,
      next: row + 1 < arguments.rows ? input + arguments.inputStride : nil, as: V.self)
    (inputShift, inputScale, inputSum) = (result.largest, inverseTemperature, result.sum)
    inputLog = log(inputSum)
  }
  var (targetShift, targetScale): (V.Lane, V.Lane) = (0, 1)
  var (targetSum, targetLog) = (1.0, 0.0)
  if arguments.targetForm == .logits {
    let result = softmax(
      target, columns, inverseTemperature, targetExponentials,
      next: row + 1 < arguments.rows ? target + arguments.targetStride : nil, as: V.self)
    (targetShift, targetScale, targetSum) = (result.largest, inverseTemperature, result.sum)
    targetLog = log(targetSum)
  }

  // Σ p·(log p − log q) and Σ p, with p = pₖ before division by targetSum; p = 0 counts 0 whatever q is.
  let (xShift, xScale) = (V(lane: inputShift), V(lane: inputScale))
  let (uShift, uScale) = (V(lane: targetShift), V(lane: targetScale))
  var (divergence, mass) = (0.0, 0.0)
  @inline(__always)
  func accumulate(_ term: (Int, Int) -> (p: V, logP: V)) {
    var index = 0
    while index < columns {
      let end = min(index + 32 * V.laneCount, columns)
      var (terms, masses) = (V(lane: 0), V(lane: 0))
      while index < end {
        let lanes = min(V.laneCount, columns - index)
        var (p, logP) = term(index, lanes)
        if lanes < V.laneCount { p = V(lane: 0).replacing(with: p, where: V.first(lanes)) }
        let logQ = (loadLanes(input + index, lanes, as: V.self) - xShift) * xScale
        terms = terms + (p * (logP - logQ)).replacing(with: V(lane: 0), where: p .== V(lane: 0))
        masses = masses + p
        index += lanes
      }
      divergence += terms.total
      mass += masses.total
    }
  }
  switch arguments.targetForm {
  case .logits:
    accumulate { index, lanes in
      (
        loadLanes(targetExponentials + index, lanes, as: V.self),
        (loadLanes(target + index, lanes, as: V.self) - uShift) * uScale
      )
    }
    // The exponentials were added up before; their sum is the mass.
    divergence = divergence / targetSum + (inputLog - targetLog)
    mass = 1
  case .probabilities:
    accumulate { index, lanes in
      let p = loadLanes(target + index, lanes, as: V.self)
      return (p, V.log(p))
    }
    if mass != 0 { divergence += mass * inputLog }
  case .logProbabilities:
    accumulate { index, lanes in
      let logP = loadLanes(target + index, lanes, as: V.self)
      return (V.exp(logP), logP)
    }
    if mass != 0 { divergence += mass * inputLog }
  }

  // d(T²·KL)/dx, in which one T comes from the logits' division.
  let scale = arguments.gradientScale * weight
  // That of the targets first, which reads the input: the input's may take its place.
  if let gradients = arguments.targetGradient {
    let gradient = gradients + row * arguments.targetGradientStride
    let outer = V(lane: V.Lane(scale * arguments.temperature / targetSum))
    let shift = V(lane: V.Lane(inputLog - targetLog - divergence))
    writeRow(gradient, columns, streams: arguments.streams, &partialLines.target, as: V.self) { index, lanes in
      let p = loadLanes(targetExponentials + index, lanes, as: V.self)
      let logP = (loadLanes(target + index, lanes, as: V.self) - uShift) * uScale
      let logQ = (loadLanes(input + index, lanes, as: V.self) - xShift) * xScale
      return (p * outer * ((logP - logQ) + shift)).replacing(with: V(lane: 0), where: p .== V(lane: 0))
    }
  }
  if let gradients = arguments.inputGradient {
    let gradient = gradients + row * arguments.inputGradientStride
    let outer = arguments.inputForm == .logits ? scale * arguments.temperature : scale * square
    let qScale = V(lane: V.Lane(arguments.inputForm == .logits ? outer * mass / inputSum : 0))
    let pScale = V(lane: V.Lane(-outer / targetSum))
    let isLogits = arguments.inputForm == .logits
    @inline(__always)
    func write(_ p: (Int, Int) -> V) {
      writeRow(gradient, columns, streams: arguments.streams, &partialLines.input, as: V.self) { index, lanes in
        let pull = p(index, lanes) * pScale
        return isLogits
          ? V.multiplyAdd(loadLanes(inputExponentials + index, lanes, as: V.self), qScale, pull) : pull
      }
    }
    switch arguments.targetForm {
    case .logits: write { loadLanes(targetExponentials + $0, $1, as: V.self) }
    case .probabilities: write { loadLanes(target + $0, $1, as: V.self) }
    case .logProbabilities: write { V.exp(loadLanes(target + $0, $1, as: V.self)) }
    }
  }
  return weight * square * divergence
}
