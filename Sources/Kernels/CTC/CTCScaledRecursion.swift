import BatchLossFormulas
import BatchLossKernelInterface

// Forward and backward variables as float64 with one binary exponent a frame, which every eighth frame brings
// the largest state back to 1…2. States far below the largest would underflow. They are held at `ctcFloor`
// instead, so that no alignment is lost: computed sums of states that an alignment can pass through are never less
// than the true ones, and what was added is bounded: a floor put in at frame t contributes to P at most itself times
// the largest variable of the other direction. Where all that, over states and frames, is below 2⁻⁴⁰ of the computed
// P, P and all posteriors are right to 2⁻³⁸; where not, the caller takes the wide recursion. Floors beside the band are
// put in before the scaling of their frame and grow until the next one, 6⁸ at most; the bits kept for growth cover
// both directions, of which one grows at a time.

private typealias Doubles = SIMD8<Double>

/// What no state falls below; times the smallest emission, 2⁻¹²⁶, it is still a normal number.
let ctcFloor: Double = 0x1p-850
/// Frames between two scalings are this and one.
let ctcScalingMask = 7
/// Bits by which a computed P must exceed `ctcFloor` for the certificate: 40, and 44 for what the largest state
/// can grow to between scalings (2 · 6⁸ forward and backward, sums of three times an emission of at most 2).
private let certifiedBits = -850.0 + 84

/// Posteriors below it become 0; a normal number in either scalar type.
private let smallestPosterior: Double = 0x1p-120

/// - Returns: Whether the result is certified; otherwise nothing but scratch memory has been written.
@inline(__always)
func ctcScaledRecursion<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) -> Bool {
  if ctcIsNarrow(arguments) {
    ctcNarrowForward(&arguments, workspace, as: V.self)
    return ctcNarrowBackward(arguments, workspace, as: V.self)
  }
  ctcScaledForward(&arguments, workspace, as: V.self)
  return ctcScaledBackward(arguments, workspace, as: V.self)
}

@inline(__always)
private func ctcScaledForward<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  let count = arguments.labelCount
  let end = (count + 8) & -8
  let emissions = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self)
  let blankEmissions = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let exponents = (arguments.workspace + workspace.exponents).assumingMemoryBound(to: Double.self)
  let skips = ctcRow(0, arguments, workspace)
  let blanks = ctcRow(1, arguments, workspace)
  var labels = (arguments.workspace + workspace.forward).assumingMemoryBound(to: Double.self)
  let step = arguments.gradient == nil ? 0 : workspace.width
  let lowest = Doubles(repeating: ctcFloor)
  for index in 0..<end { (blanks[index], labels[index]) = (ctcFloor, ctcFloor) }
  blanks[0] = blankEmissions[0]
  if count > 0 { labels[0] = Double(emissions[0]) }
  let spare = arguments.frames - count
  var exponent = 0.0
  exponents[0] = exponent
  for frame in 1..<max(arguments.frames, 1) {
    let emission = emissions + frame * workspace.width
    let blankEmission = Doubles(repeating: blankEmissions[frame])
    let next = labels + step
    let band = ctcBand(frame, spare: spare, end: end)
    var before = lowest
    var index = band.start
    while index < band.end {
      let blank = Doubles.load(blanks + index)
      let label = Doubles.load(labels + index)
      let states = ctcForwardStep(
        blank, label, before: before, .load(skips + index), V.loadDoubles(emission + index), blankEmission)
      before = label
      states.blank.store(blanks + index)
      states.label.store(next + index)
      index += 8
    }
    // Where the next frame's band may begin to differ.
    lowest.store(next + band.end)
    labels = next
    if frame & ctcScalingMask == ctcScalingMask { exponent += ctcRescale(blanks, labels, band) }
    exponents[frame] = exponent
  }
  arguments.probability = blanks[count] + (count > 0 ? labels[count - 1] : 0)
  arguments.probabilityExponent = exponent
}

@inline(__always)
private func ctcScaledBackward<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) -> Bool {
  let count = arguments.labelCount
  let end = (count + 8) & -8
  let emissions = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self)
  let blankEmissions = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let exponents = (arguments.workspace + workspace.exponents).assumingMemoryBound(to: Double.self)
  let nextSkips = ctcRow(0, arguments, workspace) + 1
  let blanks = ctcRow(1, arguments, workspace)
  let labels = ctcRow(2, arguments, workspace)
  let forward = (arguments.workspace + workspace.forward).assumingMemoryBound(to: Double.self)
  let writes = arguments.gradient != nil
  let lowest = Doubles(repeating: ctcFloor)
  let reciprocal = 1 / arguments.probability
  let margin = ctcMargin(arguments)
  let spare = arguments.frames - count
  for index in 0..<end + 8 { (blanks[index], labels[index]) = (ctcFloor, ctcFloor) }
  // Products of backward variable and emission, of the frame after.
  blanks[count] = 1
  var exponent = 0.0
  var frame = arguments.frames - 1
  while frame >= 0 {
    // Floors were put in before the scaling of this frame, in both directions.
    let shift = arguments.probabilityExponent - exponents[frame] - exponent
    guard arguments.probabilityExponent - exponents[max(frame - 1, 0)] - exponent >= margin else { return false }
    let emission = emissions + frame * workspace.width
    let blankEmission = Doubles(repeating: blankEmissions[frame])
    let band = ctcBand(frame, spare: spare, end: end)
    var index = band.start
    var blank = Doubles.load(blanks + index)
    var label = Doubles.load(labels + index)
    if writes {
      let factor = Doubles(repeating: ctcPower(ofTwo: -shift) * reciprocal)
      let forward = forward + frame * workspace.width
      var sum = Doubles(repeating: 0)
      // Outside, emissions have to become posteriors as well: 0.
      var outside = 0
      while outside < end {
        if outside == band.start {
          outside = band.end
        } else {
          V.storeDoubles(sum, emission + outside)
          outside += 8
        }
      }
      while index < band.end {
        let (blankAfter, labelAfter) = (Doubles.load(blanks + index + 8), Doubles.load(labels + index + 8))
        let states = ctcBackwardStep(
          blank, label, after: (blankAfter, labelAfter), .load(nextSkips + index), V.loadDoubles(emission + index),
          blankEmission)
        let posterior = ctcPosterior(.load(forward + index), states.backward, factor)
        sum = sum + posterior
        states.blank.store(blanks + index)
        states.label.store(labels + index)
        V.storeDoubles(posterior, emission + index)
        (blank, label) = (blankAfter, labelAfter)
        index += 8
      }
      let blankPosterior = 1 - sum.total
      blankEmissions[frame] = blankPosterior > 0 ? blankPosterior : 0
    } else {
      while index < band.end {
        let (blankAfter, labelAfter) = (Doubles.load(blanks + index + 8), Doubles.load(labels + index + 8))
        let states = ctcBackwardStep(
          blank, label, after: (blankAfter, labelAfter), .load(nextSkips + index), V.loadDoubles(emission + index),
          blankEmission)
        states.blank.store(blanks + index)
        states.label.store(labels + index)
        (blank, label) = (blankAfter, labelAfter)
        index += 8
      }
    }
    lowest.store(blanks + band.end)
    lowest.store(labels + band.end)
    if frame & ctcScalingMask == ctcScalingMask { exponent += ctcRescale(blanks, labels, band) }
    frame -= 1
  }
  return true
}

/// Bits by which the exponents of P must exceed those of both directions in every frame: `certifiedBits`, and those of
/// the number of states and frames, rounded up.
@inline(__always)
func ctcMargin<Lane: KernelScalar>(_ arguments: CTCArguments<Lane>) -> Double {
  let cells = Double((2 * arguments.labelCount + 1) * arguments.frames)
  return certifiedBits + Double(cells.exponent) + 1 - Double(arguments.probability.exponent)
}

/// States of a frame from those of the frame before; `before` has the labels below these.
@inline(__always)
func ctcForwardStep(
  _ blank: SIMD8<Double>, _ label: SIMD8<Double>, before: SIMD8<Double>, _ skips: SIMD8<Double>,
  _ emission: SIMD8<Double>, _ blankEmission: SIMD8<Double>
) -> (blank: SIMD8<Double>, label: SIMD8<Double>) {
  let lowest = Doubles(repeating: ctcFloor)
  let previous = ctcShiftedUp(label, before)
  let fromBoth = Doubles.multiplyAdd(skips, previous, label + blank)
  return (ctcLarger((blank + previous) * blankEmission, lowest), ctcLarger(fromBoth * emission, lowest))
}

/// States of a frame, times its emissions, from those of the frame after, and the backward variables of the labels;
/// `after` has the states above these.
@inline(__always)
func ctcBackwardStep(
  _ blank: SIMD8<Double>, _ label: SIMD8<Double>, after: (blank: SIMD8<Double>, label: SIMD8<Double>),
  _ nextSkips: SIMD8<Double>, _ emission: SIMD8<Double>, _ blankEmission: SIMD8<Double>
) -> (blank: SIMD8<Double>, label: SIMD8<Double>, backward: SIMD8<Double>) {
  let lowest = Doubles(repeating: ctcFloor)
  let (blankNext, labelNext) = (ctcShiftedDown(blank, after.blank), ctcShiftedDown(label, after.label))
  let backward = Doubles.multiplyAdd(nextSkips, labelNext, label + blankNext)
  return (ctcLarger((blank + label) * blankEmission, lowest), ctcLarger(backward * emission, lowest), backward)
}

/// The product of both directions over P, by `factor`.
@inline(__always)
func ctcPosterior(_ forward: SIMD8<Double>, _ backward: SIMD8<Double>, _ factor: SIMD8<Double>) -> SIMD8<Double> {
  let smallest = Doubles(repeating: smallestPosterior)
  // Kept away from subnormal numbers, which would be slow.
  let product = forward * ctcLarger(backward * factor, smallest)
  return product.replacing(with: Doubles(repeating: 0), where: product .< smallest)
}

/// The vectors of states through which an alignment can pass in a frame: the label before it has been reached from
/// the first, and the last can be reached from it, by one label a frame. What is outside counts as `ctcFloor`. So does
/// the label before the band in the frame after, which is why the band starts one label early.
@inline(__always)
private func ctcBand(_ frame: Int, spare: Int, end: Int) -> (start: Int, end: Int) {
  let (early, last) = (frame - spare - 1, (frame + 8) & -8)
  return (early > 0 ? early & -8 : 0, last < end ? last : end)
}

/// Divides both rows by the power of two that brings the largest state of the band into 1…2.
/// - Returns: The exponent of that power.
@inline(__always)
private func ctcRescale(
  _ blanks: UnsafeMutablePointer<Double>, _ labels: UnsafeMutablePointer<Double>, _ band: (start: Int, end: Int)
) -> Double {
  var largest = Doubles.load(blanks + band.start)
  var index = band.start
  while index < band.end {
    largest = ctcLarger(largest, ctcLarger(.load(blanks + index), .load(labels + index)))
    index += 8
  }
  let (exponent, factor) = ctcScale(largest.largest)
  index = band.start
  while index < band.end {
    (Doubles.load(blanks + index) * factor).store(blanks + index)
    (Doubles.load(labels + index) * factor).store(labels + index)
    index += 8
  }
  return exponent
}

/// The exponent of a positive number, and the power of two that brings it into 1…2.
@inline(__always)
func ctcScale(_ largest: Double) -> (exponent: Double, factor: SIMD8<Double>) {
  let exponent = Double(Int(largest.bitPattern &>> 52) - 1023)
  return (exponent, Doubles(repeating: ctcPower(ofTwo: -exponent)))
}

/// The lanes moved up by one, the lowest filled from the highest of the vector before.
@inline(__always)
func ctcShiftedUp(_ x: SIMD8<Double>, _ before: SIMD8<Double>) -> SIMD8<Double> {
  SIMD8(before[7], x[0], x[1], x[2], x[3], x[4], x[5], x[6])
}

/// The lanes moved down by one, the highest filled from the lowest of the vector after.
@inline(__always)
func ctcShiftedDown(_ x: SIMD8<Double>, _ after: SIMD8<Double>) -> SIMD8<Double> {
  SIMD8(x[1], x[2], x[3], x[4], x[5], x[6], x[7], after[0])
}

/// 2ⁿ for an integer n; at most 2¹⁰²³, and 0 below 2⁻¹⁰²².
@inline(__always)
func ctcPower(ofTwo n: Double) -> Double {
  guard n >= -1022 else { return 0 }
  return Double(bitPattern: UInt64(Int64(n < 1023 ? n : 1023) + 1023) << 52)
}
