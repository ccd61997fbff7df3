// What is checked: the kernel of every element-wise loss on every level this processor has, at counts about the
// lengths of vectors, of the float64 hand-over (512) and of a block (16384), with and without weights, gradient
// and losses, with ordinary and with streaming stores.
// Against: a plain loop in float64 (ElementwiseSubject). Levels with fused multiply-add must agree bit for bit.
// Tolerance: 32 roundings of the terms of the formula for an element, and 24 more in sums; see
// ElementwiseReference. Memory ends at a forbidden page, so reading beyond an input ends the test.

import BatchLoss
import BatchLossKernelInterface
import BatchLossTestSupport
import Testing

/// The kernels of each level, made once.
let kernelSelections = Dictionary(
  uniqueKeysWithValues: InstructionSet.available.map { ($0, KernelSelection($0)) })

@Suite("Element-wise losses: kernels of every level")
struct ElementwiseKernelTests {
  static let counts = [
    1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 511, 512, 513, 1023, 1025, 16383, 16384, 16385,
  ]

  @Test("Float", arguments: ElementwiseSubject.all)
  func float(_ subject: ElementwiseSubject) throws { try check(subject, Float.self) }

  @Test("Double", arguments: ElementwiseSubject.all)
  func double(_ subject: ElementwiseSubject) throws { try check(subject, Double.self) }

  private func check<Scalar: LossScalar>(_ subject: ElementwiseSubject, _: Scalar.Type) throws {
    for count in Self.counts {
      let (predictions, targets) = subject.inputs(count: count, seed: UInt64(count))
      for weighting in Weighting.allCases {
        let weights = weighting.weights(count: count)
        let reference = ElementwiseReference(
          subject, predictions: predictions, targets: targets, weights: weights, scale: 0.375,
          scalar: Scalar.self)
        // Long runs exercise the same code as short ones: one form of each suffices.
        for form in count > 1025 && weighting != .none ? [.everything] : Form.allCases {
          var fused: Outcome<Scalar>?
          for level in InstructionSet.available {
            let outcome = try run(
              subject.loss, on: level, predictions, targets, weighting, weights, form, Scalar.self)
            let label: Comment = "\(subject), \(level), \(count) elements, weights \(weighting), \(form)"
            #expect(mismatch(outcome.sum, reference.sum, allowed: reference.sumAllowed) == nil, label)
            if let losses = outcome.losses {
              #expect(reference.losses.mismatch(doubles(losses)) == nil, label)
            }
            if let gradient = outcome.gradient {
              #expect(reference.gradient.mismatch(doubles(gradient)) == nil, label)
            }
            if form == .everything { #expect(outcome.active == reference.active, label) }
            #expect(outcome.isIntact, label)
            guard level == .x86v3 || level == .x86v4 else { continue }
            if let fused { #expect(fused.hasSameBits(as: outcome), label) }
            fused = outcome
          }
        }
      }
    }
  }

  // MARK: One run of a kernel

  enum Weighting: CaseIterable {
    case none, shared, elements

    func weights(count: Int) -> [Double]? {
      switch self {
      case .none: nil
      case .shared: Array(repeating: 1.5, count: count)
      case .elements: randomWeights(count: count, seed: UInt64(count))
      }
    }
  }

  enum Form: CaseIterable {
    case sumOnly, gradient, streamedGradient, gradientInPlace, everything
  }

  struct Outcome<Scalar: LossScalar> {
    var sum: Double
    var active: Int
    var losses: [Scalar]?
    var gradient: [Scalar]?
    var isIntact: Bool

    func hasSameBits(as other: Self) -> Bool {
      sum.bitPattern == other.sum.bitPattern && haveSameBits(losses ?? [], other.losses ?? [])
        && haveSameBits(gradient ?? [], other.gradient ?? [])
    }
  }

  private func run<Scalar: LossScalar, Loss: ElementwiseLoss>(
    _ loss: Loss, on level: InstructionSet, _ predictions: [Double], _ targets: [Double],
    _ weighting: Weighting, _ weights: [Double]?, _ form: Form, _: Scalar.Type
  ) throws -> Outcome<Scalar> {
    let count = predictions.count
    func guarded(_ values: [Double]) -> GuardedBuffer<Scalar> {
      GuardedBuffer(rows: 1, columns: count, converted(values, to: Scalar.self))
    }
    let kernel = try #require(kernelSelections[level]!.elementwise(Loss.self, Scalar.self))
    let (x, t) = (guarded(predictions), guarded(targets))
    let w = weighting == .elements ? guarded(weights!) : nil
    let losses = GuardedBuffer<Scalar>(rows: 1, columns: count)
    let gradient = GuardedBuffer<Scalar>(
      rows: 1, columns: count, placement: form == .streamedGradient ? .line : .end)
    var arguments = ElementwiseArguments<Scalar>(
      predictions: UnsafePointer(x.base), targets: UnsafePointer(t.base),
      weights: w.map { UnsafePointer($0.base) }, weight: weighting == .shared ? 1.5 : 1,
      gradient: form == .sumOnly ? nil : form == .gradientInPlace ? x.base : gradient.base,
      losses: form == .everything ? losses.base : nil, count: count, gradientScale: 0.375,
      streams: form == .streamedGradient, countsActive: form == .everything)
    withUnsafePointer(to: loss) { kernel($0, &arguments) }
    return Outcome(
      sum: arguments.sum, active: arguments.active, losses: form == .everything ? losses.elements : nil,
      gradient: form == .sumOnly ? nil : form == .gradientInPlace ? x.elements : gradient.elements,
      isIntact: x.isIntact && t.isIntact && w?.isIntact ?? true && losses.isIntact && gradient.isIntact)
  }
}
