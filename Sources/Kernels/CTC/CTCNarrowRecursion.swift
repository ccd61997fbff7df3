import BatchLossFormulas
import BatchLossKernelInterface

// The scaled recursion of at most fifteen labels: all states are in four vectors, which stay in registers from frame to
// frame. In memory each frame would wait for what the one before has stored. There is no band: states that no alignment
// passes through start as `ctcFloor` and take part in every step and scaling, like the padding. Each floor counts once in
// the bound, at the frame that puts it in, so the certificate is that of the other form.

private typealias Doubles = SIMD8<Double>

/// States of one frame.
private struct NarrowStates {
  var blanks: (low: SIMD8<Double>, high: SIMD8<Double>)
  var labels: (low: SIMD8<Double>, high: SIMD8<Double>)

  @inline(__always)
  init(_ state: Doubles) {
    blanks = (state, state)
    labels = (state, state)
  }

  /// Divides by the power of two that brings the largest state into 1…2.
  /// - Returns: The exponent of that power.
  @inline(__always)
  mutating func rescale() -> Double {
    let largest = ctcLarger(ctcLarger(blanks.low, blanks.high), ctcLarger(labels.low, labels.high)).largest
    let (exponent, factor) = ctcScale(largest)
    blanks = (blanks.low * factor, blanks.high * factor)
    labels = (labels.low * factor, labels.high * factor)
    return exponent
  }
}

/// Whether all states are in four vectors and those in registers. AVX2 has too few registers: 1.08 of the time.
@inline(__always)
func ctcIsNarrow<Lane: KernelScalar>(_ arguments: CTCArguments<Lane>) -> Bool {
  #if BATCHLOSS_X86_V4
    return arguments.labelCount < 16
  #else
    return false
  #endif
}

@inline(never)
func ctcNarrowForward<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  let count = arguments.labelCount
  let width = workspace.width
  var emission = UnsafePointer((arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self))
  let blankEmissions = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let exponents = (arguments.workspace + workspace.exponents).assumingMemoryBound(to: Double.self)
  var forward = (arguments.workspace + workspace.forward).assumingMemoryBound(to: Double.self)
  let writes = arguments.gradient != nil
  let skipRow = ctcRow(0, arguments, workspace)
  let skips = (low: Doubles.load(skipRow), high: Doubles.load(skipRow + 8))
  let lowest = Doubles(repeating: ctcFloor)
  var states = NarrowStates(lowest)
  states.blanks.low[0] = blankEmissions[0]
  if count > 0 { states.labels.low[0] = Double(emission[0]) }
  @inline(__always)
  func store() {
    guard writes else { return }
    states.labels.low.store(forward)
    states.labels.high.store(forward + 8)
    forward += width
  }
  store()
  var exponent = 0.0
  exponents[0] = exponent
  for frame in 1..<max(arguments.frames, 1) {
    emission += width
    let blankEmission = Doubles(repeating: blankEmissions[frame])
    let (blanks, labels) = (states.blanks, states.labels)
    (states.blanks.low, states.labels.low) = ctcForwardStep(
      blanks.low, labels.low, before: lowest, skips.low, V.loadDoubles(emission), blankEmission)
    (states.blanks.high, states.labels.high) = ctcForwardStep(
      blanks.high, labels.high, before: labels.low, skips.high, V.loadDoubles(emission + 8), blankEmission)
    if frame & ctcScalingMask == ctcScalingMask { exponent += states.rescale() }
    exponents[frame] = exponent
    store()
  }
  let (blank, label) = (count & 7, (count - 1) & 7)
  arguments.probability = count > 7 ? states.blanks.high[blank] : states.blanks.low[blank]
  if count > 0 { arguments.probability += count > 8 ? states.labels.high[label] : states.labels.low[label] }
  arguments.probabilityExponent = exponent
}

/// - Returns: Whether the result is certified.
@inline(never)
func ctcNarrowBackward<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) -> Bool {
  let (count, width) = (arguments.labelCount, workspace.width)
  let blankEmissions = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let exponents = (arguments.workspace + workspace.exponents).assumingMemoryBound(to: Double.self)
  var frame = arguments.frames - 1
  var emission = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self) + frame * width
  var forward = (arguments.workspace + workspace.forward).assumingMemoryBound(to: Double.self) + frame * width
  let writes = arguments.gradient != nil
  let skipRow = ctcRow(0, arguments, workspace) + 1
  let nextSkips = (low: Doubles.load(skipRow), high: Doubles.load(skipRow + 8))
  let lowest = Doubles(repeating: ctcFloor)
  let reciprocal = 1 / arguments.probability
  let margin = ctcMargin(arguments)
  // Products of backward variable and emission, of the frame after.
  var states = NarrowStates(lowest)
  if count > 7 { states.blanks.high[count & 7] = 1 } else { states.blanks.low[count] = 1 }
  var exponent = 0.0
  while frame >= 0 {
    let shift = arguments.probabilityExponent - exponents[frame] - exponent
    // Floors were put in before the scaling of this frame, in both directions.
    guard arguments.probabilityExponent - exponents[max(frame - 1, 0)] - exponent >= margin else { return false }
    let blankEmission = Doubles(repeating: blankEmissions[frame])
    let (blanks, labels) = (states.blanks, states.labels)
    let low = ctcBackwardStep(
      blanks.low, labels.low, after: (blanks.high, labels.high), nextSkips.low, V.loadDoubles(emission),
      blankEmission)
    let high = ctcBackwardStep(
      blanks.high, labels.high, after: (lowest, lowest), nextSkips.high, V.loadDoubles(emission + 8), blankEmission)
    if writes {
      let factor = Doubles(repeating: ctcPower(ofTwo: -shift) * reciprocal)
      let lowPosterior = ctcPosterior(.load(forward), low.backward, factor)
      let highPosterior = ctcPosterior(.load(forward + 8), high.backward, factor)
      V.storeDoubles(lowPosterior, emission)
      V.storeDoubles(highPosterior, emission + 8)
      let blankPosterior = 1 - (lowPosterior + highPosterior).total
      blankEmissions[frame] = blankPosterior > 0 ? blankPosterior : 0
    }
    states.blanks = (low.blank, high.blank)
    states.labels = (low.label, high.label)
    if frame & ctcScalingMask == ctcScalingMask { exponent += states.rescale() }
    emission -= width
    forward -= width
    frame -= 1
  }
  return true
}
