/// How the two distributions of a KL divergence are given.
package enum DistributionForm: Sendable {
  case probabilities, logProbabilities, logits
}

/// One block of rows of the divergence T²·Σ p·(log p − log q). `nil` means not given; strides count elements.
package struct KLDivergenceArguments<Scalar: KernelScalar> {
  /// q, as logits or log-probabilities.
  package var input: UnsafePointer<Scalar>
  package var inputStride: Int
  package var inputForm: DistributionForm
  /// p, in any form.
  package var target: UnsafePointer<Scalar>
  package var targetStride: Int
  package var targetForm: DistributionForm
  package var rows: Int
  package var columns: Int
  /// What logits are divided by.
  package var temperature: Double
  package var weights: UnsafePointer<Scalar>?

  package var inputGradient: UnsafeMutablePointer<Scalar>?
  package var inputGradientStride: Int = 0
  /// Given for logits only.
  package var targetGradient: UnsafeMutablePointer<Scalar>?
  package var targetGradientStride: Int = 0
  package var gradientScale: Double = 0
  /// Whether gradients bypass the cache.
  package var streams: Bool = false
  package var losses: UnsafeMutablePointer<Scalar>?

  /// `scratchCount(columns:)` elements aligned to 64 bytes.
  package var scratch: UnsafeMutablePointer<Scalar>
  /// Out: the sum of the weighted losses.
  package var sum: Double = 0
  /// Out: how many weighted losses are greater than 0.
  package var active: Int = 0

  package init(
    input: UnsafePointer<Scalar>, inputStride: Int, inputForm: DistributionForm,
    target: UnsafePointer<Scalar>, targetStride: Int, targetForm: DistributionForm,
    rows: Int, columns: Int, temperature: Double, scratch: UnsafeMutablePointer<Scalar>
  ) {
    self.input = input
    self.inputStride = inputStride
    self.inputForm = inputForm
    self.target = target
    self.targetStride = targetStride
    self.targetForm = targetForm
    self.rows = rows
    self.columns = columns
    self.temperature = temperature
    self.scratch = scratch
  }

  /// Scratch elements that a block of rows of `columns` needs: the exponentials of both sides of two rows.
  package static func scratchCount(columns: Int) -> Int { 4 * padded(columns) }

  /// Rounded up to whole vectors.
  package static func padded(_ count: Int) -> Int { (count + 15) & ~15 }
}

/// A row of two distributions from logits whose sums are known and whose gradients are still to be written.
package struct KLDivergenceRow<Scalar: KernelScalar> {
  package var input: UnsafePointer<Scalar>
  package var target: UnsafePointer<Scalar>
  package var inputShift: Scalar = 0
  package var targetShift: Scalar = 0
  /// Exponentials relative to the shifts.
  package var inputExponentials: UnsafeMutablePointer<Scalar>
  package var targetExponentials: UnsafeMutablePointer<Scalar>
  package var inputGradient: UnsafeMutablePointer<Scalar>?
  package var targetGradient: UnsafeMutablePointer<Scalar>?
  /// The gradient by the input is `inputFactor`·e^x + `targetFactor`·e^u.
  package var inputFactor: Scalar = 0
  package var targetFactor: Scalar = 0
  /// The gradient by the target is `outer`·e^u·(log e^u − log e^x + `offset`).
  package var outer: Scalar = 0
  package var offset: Scalar = 0
  /// What rounding took from `offset`: it is up to 20, and the sum with it cancels where e^u is largest.
  package var offsetRest: Scalar = 0

  package init(
    input: UnsafePointer<Scalar>, target: UnsafePointer<Scalar>,
    inputExponentials: UnsafeMutablePointer<Scalar>, targetExponentials: UnsafeMutablePointer<Scalar>
  ) {
    self.input = input
    self.target = target
    self.inputExponentials = inputExponentials
    self.targetExponentials = targetExponentials
  }
}

/// Evaluates the KL divergence over one block of rows.
package typealias KLDivergenceKernel<Scalar: KernelScalar> =
  @Sendable (
    _ arguments: inout KLDivergenceArguments<Scalar>
  ) -> Void
