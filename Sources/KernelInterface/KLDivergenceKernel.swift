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

  /// Scratch elements that a block of rows of `columns` needs.
  package static func scratchCount(columns: Int) -> Int { KLDivergenceScratch<Scalar>.count(columns: columns) }
}

/// What is kept of a row between its sums and its gradients.
package struct KLDivergenceScratch<Scalar: KernelScalar> {
  /// Exponentials relative to the largest logit.
  package let inputExponentials: UnsafeMutablePointer<Scalar>
  package let targetExponentials: UnsafeMutablePointer<Scalar>
  /// Target's logit minus input's, divided by the temperature, less one number for the row.
  package let differences: UnsafeMutablePointer<Scalar>
  /// What waits of the gradients' rows: ``PartialLineMemory/count`` elements each.
  package let (inputPartialLine, targetPartialLine): (UnsafeMutablePointer<Scalar>, UnsafeMutablePointer<Scalar>)

  package init(_ memory: UnsafeMutablePointer<Scalar>, columns: Int) {
    let stride = Self.stride(columns)
    inputExponentials = memory
    targetExponentials = memory + stride
    differences = memory + 2 * stride
    (inputPartialLine, targetPartialLine) = (memory + 3 * stride, memory + (3 * stride + PartialLineMemory.count))
  }

  /// Elements of all.
  package static func count(columns: Int) -> Int { 3 * stride(columns) + 2 * PartialLineMemory.count }

  /// Pages and a quarter of one, so that elements of the same index lie in different sets of a cache: two rows of logits,
  /// two of gradients and these three share the eight lines of one otherwise.
  private static func stride(_ columns: Int) -> Int {
    let page = 4096 / MemoryLayout<Scalar>.stride
    return (columns + page - 1) / page * page + page / 4
  }
}

/// Evaluates the KL divergence over one block of rows.
package typealias KLDivergenceKernel<Scalar: KernelScalar> =
  @Sendable (
    _ arguments: inout KLDivergenceArguments<Scalar>
  ) -> Void
