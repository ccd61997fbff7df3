/// How a squared Euclidean distance becomes the distance asked for.
package enum DistanceForm: Sendable {
  /// d = ‖x − y‖².
  case squared
  /// d = ‖x − y‖.
  case root
  /// d = ½‖x − y‖²: 1 − x·y for rows of length 1.
  case half
}

/// From inner products to distances and from derivatives by distances to derivatives by squared distances.
package struct DistanceKernels<Scalar: KernelScalar>: Sendable {
  /// Turns x·yⱼ into distances and lists the columns whose difference has cancelled. Returns how many.
  package typealias FromProducts =
    @Sendable (
      _ row: UnsafeMutablePointer<Scalar>, _ squaredNorms: UnsafePointer<Scalar>, _ squaredNorm: Scalar,
      _ count: Int, _ form: DistanceForm, _ cancelled: UnsafeMutablePointer<Int32>
    ) -> Int
  /// row (distances) = weights (∂/∂d) turned into ∂/∂‖x − y‖²; 0 at distance 0. Returns their sum.
  package typealias Chain =
    @Sendable (
      _ row: UnsafeMutablePointer<Scalar>, _ weights: UnsafePointer<Scalar>, _ count: Int, _ form: DistanceForm
    ) -> Double

  package let fromProducts: FromProducts
  package let chain: Chain

  package init(fromProducts: @escaping FromProducts, chain: @escaping Chain) {
    self.fromProducts = fromProducts
    self.chain = chain
  }
}
