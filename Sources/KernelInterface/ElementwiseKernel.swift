/// One run of elements of an element-wise loss. Pointers have `count` elements each; `nil` means not given.
package struct ElementwiseArguments<Scalar: KernelScalar> {
  package var predictions: UnsafePointer<Scalar>
  package var targets: UnsafePointer<Scalar>
  /// A factor an element; an element of weight 0 is silent even if it holds NaN.
  package var weights: UnsafePointer<Scalar>?
  /// A factor on all of the run, when `weights` is nil.
  package var weight: Scalar
  package var gradient: UnsafeMutablePointer<Scalar>?
  package var losses: UnsafeMutablePointer<Scalar>?
  package var count: Int
  /// What derivatives are multiplied by beside the weights.
  package var gradientScale: Scalar
  /// Whether the gradient bypasses the cache.
  package var streams: Bool
  /// Whether `active` is wanted.
  package var countsActive: Bool
  /// Out: the sum of the weighted losses, in float64.
  package var sum: Double = 0
  /// Out: how many weighted losses are greater than 0.
  package var active: Int = 0

  package init(
    predictions: UnsafePointer<Scalar>, targets: UnsafePointer<Scalar>, weights: UnsafePointer<Scalar>?,
    weight: Scalar, gradient: UnsafeMutablePointer<Scalar>?, losses: UnsafeMutablePointer<Scalar>?,
    count: Int, gradientScale: Scalar, streams: Bool, countsActive: Bool
  ) {
    self.predictions = predictions
    self.targets = targets
    self.weights = weights
    self.weight = weight
    self.gradient = gradient
    self.losses = losses
    self.count = count
    self.gradientScale = gradientScale
    self.streams = streams
    self.countsActive = countsActive
  }
}

/// Evaluates one loss, given by a pointer to its value, over one run of elements.
package typealias ElementwiseKernel<Scalar: KernelScalar> =
  @Sendable (
    _ loss: UnsafeRawPointer, _ arguments: inout ElementwiseArguments<Scalar>
  ) -> Void

/// Receives a loss type and its kernels.
package typealias ElementwiseRegister = (
  Any.Type, @escaping ElementwiseKernel<Float>, @escaping ElementwiseKernel<Double>
) -> Void
