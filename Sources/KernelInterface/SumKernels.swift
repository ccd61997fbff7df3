/// The sum of `count` numbers in float64.
package typealias SumKernel<Scalar: KernelScalar> =
  @Sendable (
    _ source: UnsafePointer<Scalar>, _ count: Int
  ) -> Double

/// How many of `count` numbers lie outside `low...high`; NaN does not.
package typealias CountOutsideKernel<Scalar: KernelScalar> =
  @Sendable (
    _ source: UnsafePointer<Scalar>, _ count: Int, _ low: Scalar, _ high: Scalar
  ) -> Int

/// Σ s·w_y in float64 over the rows whose class is not negative; a factor that is `nil` is 1.
package typealias LabelWeightKernel<Scalar: KernelScalar> =
  @Sendable (
    _ classes: UnsafePointer<Int32>, _ count: Int, _ classWeights: UnsafePointer<Scalar>?,
    _ sampleWeights: UnsafePointer<Scalar>?
  ) -> Double
