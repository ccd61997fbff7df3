import BatchLossFormulas
import BatchLossKernelInterface

// Forward and backward variables as a float64 mantissa and an exponent of base 2, itself a float64 holding an
// integer, for every state: nothing underflows, whatever the logits. Three to four times the work of the
// scaled recursion, and needed only where logits of the target lie more than 87 below the largest of their
// frame, or where an utterance is so long that its alignments span more than 2⁷⁸⁶.

private typealias Doubles = SIMD8<Double>

/// mantissa · 2^exponent; 0 is mantissa 0 with any exponent.
private typealias Wide = (mantissa: SIMD8<Double>, exponent: SIMD8<Double>)

/// The exponent that new zeros get: below that of every product of emissions, and finite.
private let exponentOfZero: Double = -0x1p1000

/// The rows of `CTCWorkspace.rows` beside the skips in row 0.
private let blankMantissas = 1
private let blankExponents = 2
private let labelMantissas = 3
private let labelExponents = 4
private let inputRow = 5

@inline(__always)
func ctcWideRecursion<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  ctcWideForward(&arguments, workspace, as: V.self)
  guard arguments.probability > 0 else {
    arguments.outcome = .impossible
    return
  }
  if arguments.gradient != nil { ctcWideBackward(arguments, workspace, as: V.self) }
}

@inline(__always)
private func ctcWideForward<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  let count = arguments.labelCount
  let width = workspace.width
  let end = (count + 8) & -8
  let skips = ctcRow(0, arguments, workspace)
  let mantissas = ctcRow(blankMantissas, arguments, workspace)
  let exponents = ctcRow(blankExponents, arguments, workspace)
  let inputs = ctcRow(inputRow, arguments, workspace)
  var labels = (arguments.workspace + workspace.forward).assumingMemoryBound(to: Double.self)
  let step = arguments.gradient == nil ? 0 : 2 * width
  // Before the first frame all is in blank 0, of which a frame makes blank 0 and label 0.
  for index in 0..<end {
    (mantissas[index], exponents[index]) = (0, exponentOfZero)
    (labels[index], labels[index + width]) = (0, exponentOfZero)
  }
  (mantissas[0], exponents[0]) = (1, 0)
  for frame in 0..<arguments.frames {
    ctcWideInputs(frame, inputs, end, arguments, workspace, as: V.self)
    let blankEmission = ctcWideExponential(Doubles(repeating: inputs[count]))
    let next = frame == 0 ? labels : labels + step
    var before: Wide = (Doubles(repeating: 0), Doubles(repeating: exponentOfZero))
    var index = 0
    while index < end {
      let blank: Wide = (.load(mantissas + index), .load(exponents + index))
      let label: Wide = (.load(labels + index), .load(labels + index + width))
      let previous = ctcWideShiftedUp(label, before)
      before = label
      let skipping = ctcWideWhere(Doubles.load(skips + index), previous)
      let nextBlank = ctcWideProduct(ctcWideSum(blank, previous), blankEmission)
      let emission = ctcWideLabelEmission(inputs, index, count)
      let nextLabel = ctcWideProduct(ctcWideSum(blank, ctcWideSum(label, skipping)), emission)
      nextBlank.mantissa.store(mantissas + index)
      nextBlank.exponent.store(exponents + index)
      nextLabel.mantissa.store(next + index)
      nextLabel.exponent.store(next + index + width)
      index += 8
    }
    labels = next
  }
  let last = max(count - 1, 0)
  let final = ctcWideSum(
    (Doubles(repeating: mantissas[count]), Doubles(repeating: exponents[count])),
    (Doubles(repeating: count > 0 ? labels[last] : 0), Doubles(repeating: labels[last + width])))
  arguments.probability = final.mantissa[0]
  arguments.probabilityExponent = final.exponent[0]
}

@inline(__always)
private func ctcWideBackward<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  let count = arguments.labelCount
  let width = workspace.width
  let end = (count + 8) & -8
  let nextSkips = ctcRow(0, arguments, workspace) + 1
  let blankMantissa = ctcRow(blankMantissas, arguments, workspace)
  let blankExponent = ctcRow(blankExponents, arguments, workspace)
  let labelMantissa = ctcRow(labelMantissas, arguments, workspace)
  let labelExponent = ctcRow(labelExponents, arguments, workspace)
  let inputs = ctcRow(inputRow, arguments, workspace)
  let forward = (arguments.workspace + workspace.forward).assumingMemoryBound(to: Double.self)
  let emissions = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self)
  let blankPosteriors = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let factor = Doubles(repeating: 1 / arguments.probability)
  let shift = Doubles(repeating: arguments.probabilityExponent)
  for index in 0..<end + 8 {
    (blankMantissa[index], blankExponent[index]) = (0, exponentOfZero)
    (labelMantissa[index], labelExponent[index]) = (0, exponentOfZero)
  }
  // Products of backward variable and emission, of the frame after.
  (blankMantissa[count], blankExponent[count]) = (1, 0)
  var frame = arguments.frames - 1
  while frame >= 0 {
    ctcWideInputs(frame, inputs, end, arguments, workspace, as: V.self)
    let blankEmission = ctcWideExponential(Doubles(repeating: inputs[count]))
    let row = forward + frame * 2 * width
    let posteriors = emissions + frame * width
    var blank: Wide = (.load(blankMantissa), .load(blankExponent))
    var label: Wide = (.load(labelMantissa), .load(labelExponent))
    var sum = Doubles(repeating: 0)
    var index = 0
    while index < end {
      let blankAfter: Wide = (.load(blankMantissa + index + 8), .load(blankExponent + index + 8))
      let labelAfter: Wide = (.load(labelMantissa + index + 8), .load(labelExponent + index + 8))
      let labelNext = ctcWideShiftedDown(label, labelAfter)
      let skipping = ctcWideWhere(Doubles.load(nextSkips + index), labelNext)
      let backward = ctcWideSum(ctcWideShiftedDown(blank, blankAfter), ctcWideSum(label, skipping))
      // α·β / P, at most 1 but for rounding; below 2⁻¹⁰⁰ it is 0.
      let power = Doubles.load(row + index + width) + (backward.exponent - shift)
      let mantissa = Doubles.load(row + index) * backward.mantissa * factor
      let posterior = (mantissa * ctcWidePower(Doubles.minimum(power, Doubles(repeating: 64))))
        .replacing(with: Doubles(repeating: 0), where: power .< Doubles(repeating: -100))
      sum = sum + posterior
      V.storeDoubles(posterior, posteriors + index)
      let nextBlank = ctcWideProduct(ctcWideSum(blank, label), blankEmission)
      let nextLabel = ctcWideProduct(backward, ctcWideLabelEmission(inputs, index, count))
      nextBlank.mantissa.store(blankMantissa + index)
      nextBlank.exponent.store(blankExponent + index)
      nextLabel.mantissa.store(labelMantissa + index)
      nextLabel.exponent.store(labelExponent + index)
      (blank, label) = (blankAfter, labelAfter)
      index += 8
    }
    let blankPosterior = 1 - sum.total
    blankPosteriors[frame] = blankPosterior > 0 ? blankPosterior : 0
    frame -= 1
  }
}

// MARK: - Emissions

/// The logarithms of the emissions of the labels and then the blank, −∞ after them.
@inline(__always)
private func ctcWideInputs<V: KernelVector>(
  _ frame: Int, _ inputs: UnsafeMutablePointer<Double>, _ end: Int, _ arguments: CTCArguments<V.Lane>,
  _ workspace: CTCWorkspace, as: V.Type
) {
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  let values = (arguments.workspace + workspace.inputs).assumingMemoryBound(to: V.Lane.self)
  ctcGather(arguments, arguments.input + frame * arguments.inputStride, values)
  let offset = offsets[frame]
  for index in 0...arguments.labelCount { inputs[index] = Double(values[index]) - offset }
  for index in arguments.labelCount + 1..<max(end, arguments.labelCount + 1) { inputs[index] = -.infinity }
}

/// The emissions of eight labels, 0 past the last.
@inline(__always)
private func ctcWideLabelEmission(_ inputs: UnsafePointer<Double>, _ index: Int, _ count: Int) -> Wide {
  let emission = ctcWideExponential(Doubles.load(inputs + index))
  let isPast = Doubles(repeating: Double(count - index)) .<= Doubles.ramp
  return (emission.mantissa.replacing(with: Doubles(repeating: 0), where: isPast), emission.exponent)
}

/// eˣ for x ≤ 1, exact to a few units in the last place of the mantissa however small it is.
@inline(__always)
private func ctcWideExponential(_ x: SIMD8<Double>) -> Wide {
  let isZero = x .< Doubles(repeating: -.greatestFiniteMagnitude)
  let finite = Doubles.maximum(
    x.replacing(with: Doubles(repeating: 0), where: isZero), Doubles(repeating: -0x1p900))
  let shift = Doubles(repeating: 0x1.8p52)
  // Numbers beyond 2⁵⁰ are integers as they are.
  let quotient = finite * Doubles(repeating: 0x1.71547652b82fep0)
  let rounded = (quotient + shift) - shift
  let exponent = rounded.replacing(with: quotient, where: quotient .< Doubles(repeating: -0x1p50))
  var rest = Doubles.multiplyAdd(exponent, Doubles(repeating: -0x1.62e42fee00000p-1), finite)
  rest = Doubles.multiplyAdd(exponent, Doubles(repeating: -0x1.a39ef35793c76p-33), rest)
  rest = Doubles.minimum(Doubles.maximum(rest, Doubles(repeating: -1)), Doubles(repeating: 1))
  let mantissa = Doubles.exp(nonPositive: rest - Doubles(repeating: 1)) * Doubles(repeating: 0x1.5bf0a8b145769p1)
  return (mantissa.replacing(with: Doubles(repeating: 0), where: isZero), exponent)
}

// MARK: - Arithmetic

/// The sum; its mantissa is not normalised.
@inline(__always)
private func ctcWideSum(_ a: Wide, _ b: Wide) -> Wide {
  let exponent = Doubles.maximum(a.exponent, b.exponent)
  let mantissa = Doubles.multiplyAdd(
    a.mantissa, ctcWidePower(a.exponent - exponent), b.mantissa * ctcWidePower(b.exponent - exponent))
  return (mantissa, exponent)
}

/// The product, with a mantissa in 1…2 or 0.
@inline(__always)
private func ctcWideProduct(_ a: Wide, _ b: Wide) -> Wide {
  let product = a.mantissa * b.mantissa
  let bits = unsafeBitCast(product, to: SIMD8<UInt64>.self)
  // The biased exponent as the low bits of 2⁵² + n.
  let biased = unsafeBitCast(
    (bits &>> SIMD8<UInt64>(repeating: 52)) | SIMD8<UInt64>(repeating: 0x4330_0000_0000_0000), to: Doubles.self)
  let mantissa = unsafeBitCast(
    (bits & SIMD8<UInt64>(repeating: 0x000f_ffff_ffff_ffff))
      | SIMD8<UInt64>(repeating: 0x3ff0_0000_0000_0000), to: Doubles.self)
  let exponent = a.exponent + b.exponent + (biased - Doubles(repeating: 0x1p52 + 1023))
  let isZero = product .== Doubles(repeating: 0)
  return (
    mantissa.replacing(with: Doubles(repeating: 0), where: isZero),
    exponent.replacing(with: Doubles(repeating: exponentOfZero), where: isZero)
  )
}

/// The number where `isAllowed` is 1, 0 where it is 0.
@inline(__always)
private func ctcWideWhere(_ isAllowed: SIMD8<Double>, _ x: Wide) -> Wide {
  let isZero = isAllowed .== Doubles(repeating: 0)
  return (
    x.mantissa * isAllowed, x.exponent.replacing(with: Doubles(repeating: exponentOfZero), where: isZero)
  )
}

/// 2ⁿ for integers n ≤ 1000, and 2⁻¹⁰⁰⁰ for all smaller n.
@inline(__always)
private func ctcWidePower(_ n: SIMD8<Double>) -> SIMD8<Double> {
  let shifted = Doubles.maximum(n, Doubles(repeating: -1000)) + Doubles(repeating: 0x1.8p52 + 1023)
  return unsafeBitCast(
    unsafeBitCast(shifted, to: SIMD8<UInt64>.self) &<< SIMD8<UInt64>(repeating: 52), to: Doubles.self)
}

@inline(__always)
private func ctcWideShiftedUp(_ x: Wide, _ before: Wide) -> Wide {
  (ctcShiftedUp(x.mantissa, before.mantissa), ctcShiftedUp(x.exponent, before.exponent))
}

@inline(__always)
private func ctcWideShiftedDown(_ x: Wide, _ after: Wide) -> Wide {
  (ctcShiftedDown(x.mantissa, after.mantissa), ctcShiftedDown(x.exponent, after.exponent))
}
