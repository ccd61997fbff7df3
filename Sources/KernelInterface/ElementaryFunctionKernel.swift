/// Applies an elementary function to `count` numbers.
package typealias ElementaryFunctionKernel<Scalar: KernelScalar> =
  @Sendable (
    _ function: ElementaryFunction, _ input: UnsafePointer<Scalar>, _ output: UnsafeMutablePointer<Scalar>,
    _ count: Int
  ) -> Void

/// The elementary functions of formulas, of sums of exponentials and of distances, for checks of their accuracy.
package enum ElementaryFunction: String, CaseIterable, Sendable {
  case exp, expOfNonPositive, expOfSummand, expMinusOne
  case log, logOnePlus, logOnePlusFraction
  case root, inverseRoot
  case tanh, softplus, sigmoid
}
