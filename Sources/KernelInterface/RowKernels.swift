/// Leaf loops over single rows, shared by the losses on embeddings. Every row has `count` elements.
package struct RowKernels<Scalar: KernelScalar>: Sendable {
  /// Σ x·y in float64.
  package typealias Dot =
    @Sendable (
      _ x: UnsafePointer<Scalar>, _ y: UnsafePointer<Scalar>, _ count: Int
    ) -> Double
  /// output = (x − offset)·factor; no offset is 0.
  package typealias Scale =
    @Sendable (
      _ x: UnsafePointer<Scalar>, _ offset: UnsafePointer<Scalar>?, _ factor: Scalar,
      _ output: UnsafeMutablePointer<Scalar>, _ count: Int
    ) -> Void
  /// output = a·x + b·y; output may be x or y.
  package typealias Combine =
    @Sendable (
      _ a: Scalar, _ x: UnsafePointer<Scalar>, _ b: Scalar, _ y: UnsafePointer<Scalar>,
      _ output: UnsafeMutablePointer<Scalar>, _ count: Int
    ) -> Void
  /// output += a·(x − y) + b·x.
  package typealias AddDifference =
    @Sendable (
      _ a: Scalar, _ b: Scalar, _ x: UnsafePointer<Scalar>, _ y: UnsafePointer<Scalar>,
      _ output: UnsafeMutablePointer<Scalar>, _ count: Int
    ) -> Void
  /// sums += the rows of a matrix, each column on its own, in float64 a block of rows.
  package typealias AddColumns =
    @Sendable (
      _ matrix: UnsafePointer<Scalar>, _ rows: Int, _ stride: Int, _ count: Int,
      _ sums: UnsafeMutablePointer<Double>
    ) -> Void

  package let dot: Dot
  package let squaredDistance: Dot
  package let scale: Scale
  package let combine: Combine
  package let addDifference: AddDifference
  package let addColumns: AddColumns

  package init(
    dot: @escaping Dot, squaredDistance: @escaping Dot, scale: @escaping Scale, combine: @escaping Combine,
    addDifference: @escaping AddDifference, addColumns: @escaping AddColumns
  ) {
    self.dot = dot
    self.squaredDistance = squaredDistance
    self.scale = scale
    self.combine = combine
    self.addDifference = addDifference
    self.addColumns = addColumns
  }
}
