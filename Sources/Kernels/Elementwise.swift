import BatchLossFormulas
import BatchLossKernelInterface

/// Elements between two transfers of the lane sums to float64.
private let flushInterval = 256

/// One run of an element-wise loss.
@inline(__always)
func elementwise<Loss: ElementwiseLoss, V: KernelVector>(
  _ loss: Loss, _ arguments: inout ElementwiseArguments<V.Lane>, as: V.Type
) {
  if isPlain(arguments) { plain(loss, &arguments, as: V.self) } else { general(loss, &arguments, as: V.self) }
}

/// One run of a loss in two stages.
@inline(__always)
func elementwise<Loss: TwoStageElementwiseLoss, V: KernelVector>(
  inTwoStages loss: Loss, _ arguments: inout ElementwiseArguments<V.Lane>, as: V.Type
) {
  if isPlain(arguments) {
    let empty = V(lane: 0)
    // As many as `stagesAhead`.
    var stages = (empty, empty, empty, empty)
    withUnsafeMutableBytes(of: &stages) {
      plainInTwoStages(loss, &arguments, stages: $0.baseAddress!.assumingMemoryBound(to: V.Lane.self), as: V.self)
    }
  } else {
    general(loss, &arguments, as: V.self)
  }
}

@inline(__always)
private func isPlain<Lane: KernelScalar>(_ arguments: ElementwiseArguments<Lane>) -> Bool {
  arguments.weights == nil && arguments.weight == 1 && arguments.losses == nil && !arguments.countsActive
}

/// No weights, no per-sample losses: whole vectors here, the rest by `general`.
@inline(never)
private func plain<Loss: ElementwiseLoss, V: KernelVector>(
  _ loss: Loss, _ arguments: inout ElementwiseArguments<V.Lane>, as: V.Type
) {
  let (predictions, targets) = (arguments.predictions, arguments.targets)
  let gradient = arguments.gradient ?? UnsafeMutablePointer(mutating: predictions)
  let writes = arguments.gradient != nil
  let streams = writes && arguments.streams && Int(bitPattern: gradient) & 63 == 0
  let scale = V(lane: arguments.gradientScale)
  let whole = arguments.count & -V.laneCount
  var sum = 0.0
  var index = 0
  while index < whole {
    let end = min(index + flushInterval, whole)
    prefetchPages(after: predictions + index, flushInterval)
    prefetchPages(after: targets + index, flushInterval)
    if streams { prefetchPages(after: gradient + index, flushInterval) }
    var losses = V(lane: 0)
    while index < end {
      let result = loss.evaluate(
        prediction: V.load(predictions + index), target: V.load(targets + index))
      losses = losses + result.loss
      prefetch(after: predictions + index)
      prefetch(after: targets + index)
      // One loop with branches that are always predicted: three loops would be three times the code.
      if streams {
        (result.derivative * scale).stream(gradient + index)
      } else if writes {
        (result.derivative * scale).store(gradient + index)
      }
      index += V.laneCount
    }
    sum += losses.total
  }
  arguments.sum = sum
  evaluateRest(loss, &arguments, from: whole, as: V.self)
}

/// Vectors that the first stage is ahead of the second.
private var stagesAhead: Int { 4 }

/// The same, with the first stage of each vector beside the second stage of an earlier one, for which it waits in
/// `stages`. What a processor can look ahead holds few vectors of a long formula, and their latencies would add up.
///
/// Not one loop with the other and closures for the stages: they stay calls.
@inline(never)
private func plainInTwoStages<Loss: TwoStageElementwiseLoss, V: KernelVector>(
  _ loss: Loss, _ arguments: inout ElementwiseArguments<V.Lane>, stages: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  let (predictions, targets) = (arguments.predictions, arguments.targets)
  let gradient = arguments.gradient ?? UnsafeMutablePointer(mutating: predictions)
  let writes = arguments.gradient != nil
  let streams = writes && arguments.streams && Int(bitPattern: gradient) & 63 == 0
  let scale = V(lane: arguments.gradientScale)
  let whole = arguments.count & -V.laneCount
  let ring = stagesAhead * V.laneCount
  var index = 0
  while index < min(ring, whole) {
    loss.firstStage(prediction: V.load(predictions + index), target: V.load(targets + index)).store(stages + index)
    index += V.laneCount
  }
  var sum = 0.0
  var losses = V(lane: 0)
  @inline(__always)
  func evaluateVectors(to end: Int, streams: Bool) {
    while index < end {
      let place = stages + (index & (ring - 1))
      let stage = V.load(UnsafePointer(place))
      // The last one again at the end, which costs nothing that counts.
      let following = min(index + ring, whole - V.laneCount)
      loss.firstStage(prediction: V.load(predictions + following), target: V.load(targets + following)).store(place)
      let result = loss.evaluate(
        prediction: V.load(predictions + index), target: V.load(targets + index), firstStage: stage)
      losses = losses + result.loss
      prefetch(after: predictions + index)
      prefetch(after: targets + index)
      if streams {
        (result.derivative * scale).stream(gradient + index)
      } else if writes {
        (result.derivative * scale).store(gradient + index)
      }
      index += V.laneCount
    }
  }
  index = 0
  while index < whole {
    let end = min(index + flushInterval, whole)
    prefetchPages(after: predictions + index, flushInterval)
    prefetchPages(after: targets + index, flushInterval)
    if streams { prefetchPages(after: gradient + index, flushInterval) }
    losses = V(lane: 0)
    // With a constant, so that the usual loop has no branch for the others.
    if streams { evaluateVectors(to: end, streams: true) } else { evaluateVectors(to: end, streams: false) }
    sum += losses.total
  }
  arguments.sum = sum
  evaluateRest(loss, &arguments, from: whole, as: V.self)
}

/// What is left of a run after its whole vectors.
@inline(__always)
private func evaluateRest<Loss: ElementwiseLoss, V: KernelVector>(
  _ loss: Loss, _ arguments: inout ElementwiseArguments<V.Lane>, from start: Int, as: V.Type
) {
  guard start < arguments.count else { return }
  var rest = arguments
  rest.predictions += start
  rest.targets += start
  if let gradient = arguments.gradient { rest.gradient = gradient + start }
  rest.count -= start
  general(loss, &rest, as: V.self)
  arguments.sum += rest.sum
}

/// Any combination of weights and outputs, any count.
@inline(never)
private func general<Loss: ElementwiseLoss, V: KernelVector>(
  _ loss: Loss, _ arguments: inout ElementwiseArguments<V.Lane>, as: V.Type
) {
  var sums = (sum: 0.0, active: 0)
  var index = 0
  while index < arguments.count {
    let lanes = min(V.laneCount, arguments.count - index)
    let result = loss.evaluate(
      prediction: loadLanes(arguments.predictions + index, lanes, as: V.self),
      target: loadLanes(arguments.targets + index, lanes, as: V.self))
    emit(loss: result.loss, derivative: result.derivative, index, lanes, arguments, &sums, as: V.self)
    index += lanes
  }
  arguments.sum = sums.sum
  arguments.active = sums.active
}

/// Weighs the losses and derivatives of up to `laneCount` elements, adds them up and writes what is asked for.
@inline(__always)
func emit<V: KernelVector>(
  loss: V, derivative: V, _ index: Int, _ lanes: Int, _ arguments: ElementwiseArguments<V.Lane>,
  _ sums: inout (sum: Double, active: Int), as: V.Type
) {
  let zero = V(lane: 0)
  var weight = V(lane: arguments.weight)
  if let weights = arguments.weights { weight = loadLanes(weights + index, lanes, as: V.self) }
  var isSilent = weight .== zero
  if lanes < V.laneCount { isSilent = isSilent .| .!V.first(lanes) }
  let weighted = (loss * weight).replacing(with: zero, where: isSilent)
  sums.sum += weighted.total
  if arguments.countsActive { sums.active += V.count(zero .< weighted) }
  if let losses = arguments.losses { storeLanes(weighted, losses + index, lanes) }
  if let gradient = arguments.gradient {
    let scaled = (derivative * weight * V(lane: arguments.gradientScale)).replacing(with: zero, where: isSilent)
    if arguments.streams && lanes == V.laneCount && Int(bitPattern: gradient + index) & 63 == 0 {
      scaled.stream(gradient + index)
    } else {
      storeLanes(scaled, gradient + index, lanes)
    }
  }
}

/// Compiles both scalar types of every listed loss.
private final class ElementwiseRegistration: ElementwiseLossVisitor {
  let register: ElementwiseRegister

  init(register: @escaping ElementwiseRegister) { self.register = register }

  @inline(__always)
  func visit<Loss: ElementwiseLoss>(_ type: Loss.Type) {
    register(
      type,
      { loss, arguments in
        elementwise(loss.load(as: Loss.self), &arguments, as: SIMD16<Float>.self)
      },
      { loss, arguments in
        elementwise(loss.load(as: Loss.self), &arguments, as: SIMD8<Double>.self)
      })
  }

  @inline(__always)
  func visit<Loss: TwoStageElementwiseLoss>(inTwoStages type: Loss.Type) {
    register(
      type,
      { loss, arguments in
        elementwise(inTwoStages: loss.load(as: Loss.self), &arguments, as: SIMD16<Float>.self)
      },
      { loss, arguments in
        elementwise(inTwoStages: loss.load(as: Loss.self), &arguments, as: SIMD8<Double>.self)
      })
  }
}

/// Hands over the kernels of every listed loss.
func registerElementwiseKernels(_ register: ElementwiseRegister) {
  withoutActuallyEscaping(register) { forEachElementwiseLoss(ElementwiseRegistration(register: $0)) }
}
