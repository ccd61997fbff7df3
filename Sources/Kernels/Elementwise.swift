import BatchLossFormulas
import BatchLossKernelInterface

/// Elements between two transfers of the lane sums to float64.
private let flushInterval = 512

/// One run of an element-wise loss.
@inline(__always)
func elementwise<Loss: ElementwiseLoss, V: KernelVector>(
  _ loss: Loss, _ arguments: inout ElementwiseArguments<V.Lane>, as: V.Type
) {
  let isPlain =
    arguments.weights == nil && arguments.weight == 1 && arguments.losses == nil && !arguments.countsActive
  if isPlain, let gradient = arguments.gradient {
    if arguments.streams && UInt(bitPattern: gradient) & 63 == 0 {
      plain(loss, &arguments, as: V.self) { index, derivative in derivative.stream(gradient + index) }
    } else {
      plain(loss, &arguments, as: V.self) { index, derivative in derivative.store(gradient + index) }
    }
  } else if isPlain {
    plain(loss, &arguments, as: V.self) { _, _ in }
  } else {
    general(loss, &arguments, as: V.self)
  }
}

/// No weights, no per-sample losses: whole vectors here, the rest by `general`.
@inline(__always)
private func plain<Loss: ElementwiseLoss, V: KernelVector>(
  _ loss: Loss, _ arguments: inout ElementwiseArguments<V.Lane>, as: V.Type,
  write: (Int, V) -> Void
) {
  let (predictions, targets) = (arguments.predictions, arguments.targets)
  let scale = V(lane: arguments.gradientScale)
  let whole = arguments.count & -(2 * V.laneCount)
  var sum = 0.0
  var start = 0
  while start < whole {
    let end = min(start + flushInterval, whole)
    var (first, second) = (V(lane: 0), V(lane: 0))
    var index = start
    while index < end {
      let next = index + V.laneCount
      let a = loss.evaluate(prediction: V.load(predictions + index), target: V.load(targets + index))
      let b = loss.evaluate(prediction: V.load(predictions + next), target: V.load(targets + next))
      first = first + a.loss
      second = second + b.loss
      write(index, a.derivative * scale)
      write(next, b.derivative * scale)
      index = next + V.laneCount
    }
    sum += (first + second).total
    start = end
  }
  arguments.sum = sum
  if whole < arguments.count {
    var rest = arguments
    rest.predictions += whole
    rest.targets += whole
    if let gradient = arguments.gradient { rest.gradient = gradient + whole }
    rest.count -= whole
    general(loss, &rest, as: V.self)
    arguments.sum += rest.sum
  }
}

/// Any combination of weights and outputs, any count.
@inline(never)
private func general<Loss: ElementwiseLoss, V: KernelVector>(
  _ loss: Loss, _ arguments: inout ElementwiseArguments<V.Lane>, as: V.Type
) {
  let scale = V(lane: arguments.gradientScale)
  var sum = 0.0
  var active = 0
  var index = 0
  while index < arguments.count {
    let count = min(V.laneCount, arguments.count - index)
    let isWhole = count == V.laneCount
    let prediction = load(arguments.predictions + index, count, isWhole, as: V.self)
    let target = load(arguments.targets + index, count, isWhole, as: V.self)
    var weight = V(lane: arguments.weight)
    if let weights = arguments.weights { weight = load(weights + index, count, isWhole, as: V.self) }
    let result = loss.evaluate(prediction: prediction, target: target)
    var isSilent = weight .== V(lane: 0)
    if !isWhole { isSilent = isSilent .| .!V.first(count) }
    let weighted = (result.loss * weight).replacing(with: V(lane: 0), where: isSilent)
    let derivative = (result.derivative * weight * scale).replacing(with: V(lane: 0), where: isSilent)
    sum += weighted.total
    active += V.count(V(lane: 0) .< weighted)
    if let losses = arguments.losses { store(weighted, losses + index, count, isWhole) }
    if let gradient = arguments.gradient { store(derivative, gradient + index, count, isWhole) }
    index += count
  }
  arguments.sum = sum
  arguments.active = active
}

@inline(__always)
private func load<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ count: Int, _ isWhole: Bool, as: V.Type
) -> V {
  isWhole ? V.load(source) : V.load(source, count: count)
}

@inline(__always)
private func store<V: KernelVector>(
  _ value: V, _ destination: UnsafeMutablePointer<V.Lane>, _ count: Int, _ isWhole: Bool
) {
  if isWhole { value.store(destination) } else { value.store(destination, count: count) }
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
}

/// Hands over the kernels of every listed loss.
func registerElementwiseKernels(_ register: ElementwiseRegister) {
  withoutActuallyEscaping(register) { forEachElementwiseLoss(ElementwiseRegistration(register: $0)) }
}
