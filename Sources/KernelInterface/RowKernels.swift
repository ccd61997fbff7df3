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

  /// The indices of the numbers that are not 0, in order; returns how many. There is room for all of them.
  package typealias Nonzeros =
    @Sendable (
      _ values: UnsafePointer<Scalar>, _ count: Int, _ indices: UnsafeMutablePointer<Int32>
    ) -> Int
  /// How many numbers are not 0.
  package typealias CountNonzeros = @Sendable (_ values: UnsafePointer<Scalar>, _ count: Int) -> Int
  package typealias AddSparse = @Sendable (_ arguments: SparseRowArguments<Scalar>) -> Void

  package let dot: Dot
  package let squaredDistance: Dot
  package let scale: Scale
  package let combine: Combine
  package let addDifference: AddDifference
  package let addColumns: AddColumns
  package let nonzeros: Nonzeros
  package let countNonzeros: CountNonzeros
  package let addSparse: AddSparse

  package init(
    dot: @escaping Dot, squaredDistance: @escaping Dot, scale: @escaping Scale, combine: @escaping Combine,
    addDifference: @escaping AddDifference, addColumns: @escaping AddColumns,
    nonzeros: @escaping Nonzeros, countNonzeros: @escaping CountNonzeros, addSparse: @escaping AddSparse
  ) {
    self.dot = dot
    self.squaredDistance = squaredDistance
    self.scale = scale
    self.combine = combine
    self.addDifference = addDifference
    self.addColumns = addColumns
    self.nonzeros = nonzeros
    self.countNonzeros = countNonzeros
    self.addSparse = addSparse
  }
}

/// Pairs of a row with some of other rows: `ownGradient` += Σ w·other, and the gradient of each other += w·own.
package struct SparseRowArguments<Scalar: KernelScalar> {
  /// A weight for each of the others, used at the indices only.
  package var weights: UnsafePointer<Scalar>
  package var indices: UnsafePointer<Int32>
  package var count: Int
  package var own: UnsafePointer<Scalar>
  package var others: UnsafePointer<Scalar>
  package var othersStride: Int
  package var columns: Int
  package var ownGradient: UnsafeMutablePointer<Scalar>?
  package var otherGradients: UnsafeMutablePointer<Scalar>?
  package var otherGradientsStride = 0

  package init(
    weights: UnsafePointer<Scalar>, indices: UnsafePointer<Int32>, count: Int, own: UnsafePointer<Scalar>,
    others: UnsafePointer<Scalar>, othersStride: Int, columns: Int
  ) {
    self.weights = weights
    self.indices = indices
    self.count = count
    self.own = own
    self.others = others
    self.othersStride = othersStride
    self.columns = columns
  }
}
