/// Which columns of a row of similarities take part.
package struct ColumnSelection<Scalar: KernelScalar> {
  package enum Kind: Sendable {
    case all
    /// Columns with the label of the row, or with another one.
    case same, different
  }
  package var kind: Kind
  package var labels: UnsafePointer<Scalar>?
  package var label: Scalar
  /// A column that never takes part; −1 for none.
  package var excluded: Int

  package init(_ kind: Kind, labels: UnsafePointer<Scalar>? = nil, label: Scalar = 0, excluded: Int = -1) {
    self.kind = kind
    self.labels = labels
    self.label = label
    self.excluded = excluded
  }
}

/// Rows of similarities s and the exponentials of a·s, over a selection of columns.
package struct SimilarityKernels<Scalar: KernelScalar>: Sendable {
  package typealias Selection = ColumnSelection<Scalar>
  /// The largest a·s; −∞ where nothing is selected.
  package typealias Largest =
    @Sendable (
      _ row: UnsafePointer<Scalar>, _ count: Int, _ a: Scalar, _ selection: Selection
    ) -> Scalar
  /// output = e^(a·s − shift), 0 where not selected; output may be the row. Returns Σ e and Σ e·s.
  package typealias Exponentials =
    @Sendable (
      _ row: UnsafePointer<Scalar>, _ count: Int, _ a: Scalar, _ shift: Scalar, _ selection: Selection,
      _ output: UnsafeMutablePointer<Scalar>
    ) -> (sum: Double, weighted: Double)
  /// How many are selected, and Σ s.
  package typealias Sum =
    @Sendable (
      _ row: UnsafePointer<Scalar>, _ count: Int, _ selection: Selection
    ) -> (count: Int, sum: Double)
  /// row = factor·row, + addend where selected.
  package typealias ScaleAdd =
    @Sendable (
      _ row: UnsafeMutablePointer<Scalar>, _ count: Int, _ factor: Scalar, _ addend: Scalar, _ selection: Selection
    ) -> Void
  /// Selected s: log(1 + e^(shift − a·s)) and its derivative by a·s, in place of s; 0 elsewhere. Returns the sums of
  /// losses, derivatives, and derivatives times s.
  package typealias Softplus =
    @Sendable (
      _ row: UnsafeMutablePointer<Scalar>, _ count: Int, _ a: Scalar, _ shift: Scalar, _ selection: Selection
    ) -> (loss: Double, weight: Double, weighted: Double)
  /// log(1 + e^(−z(a·s + b))) with z = 1 in the column `positive` and −1 in others, in all where `positive` is −1; the
  /// row becomes derivatives by a·s + b. Returns the sums of losses, derivatives, and derivatives times s.
  package typealias Sigmoid =
    @Sendable (
      _ row: UnsafeMutablePointer<Scalar>, _ count: Int, _ a: Scalar, _ b: Scalar, _ positive: Int
    ) -> (loss: Double, weight: Double, weighted: Double)
  /// Maxima and sums of e^(a·s − maximum) of columns, updated by some rows.
  package typealias Columns =
    @Sendable (
      _ matrix: UnsafePointer<Scalar>, _ rows: Int, _ stride: Int, _ count: Int, _ a: Scalar,
      _ maxima: UnsafeMutablePointer<Scalar>, _ sums: UnsafeMutablePointer<Double>
    ) -> Void
  /// row = e^(a·s − rowShift) + e^(a·s − shifts): the probabilities of a row and of its columns. Returns Σ row·s.
  package typealias Probabilities =
    @Sendable (
      _ row: UnsafeMutablePointer<Scalar>, _ count: Int, _ a: Scalar, _ rowShift: Scalar,
      _ shifts: UnsafePointer<Scalar>
    ) -> Double

  package typealias ExponentialTileKernel = @Sendable (ExponentialTile<Scalar>) -> Void
  /// output = row·(own + others), + addend where there are labels and they are `label`.
  package typealias ScaleByRowAndColumn =
    @Sendable (
      _ row: UnsafePointer<Scalar>, _ count: Int, _ own: Scalar, _ others: UnsafePointer<Scalar>,
      _ labels: UnsafePointer<Scalar>?, _ label: Scalar, _ addend: Scalar, _ output: UnsafeMutablePointer<Scalar>
    ) -> Void

  package let largest: Largest
  package let exponentials: Exponentials
  package let sum: Sum
  package let scaleAdd: ScaleAdd
  package let softplus: Softplus
  package let sigmoid: Sigmoid
  package let columns: Columns
  package let probabilities: Probabilities
  package let exponentialTile: ExponentialTileKernel
  package let scaleByRowAndColumn: ScaleByRowAndColumn

  package init(
    largest: @escaping Largest, exponentials: @escaping Exponentials, sum: @escaping Sum,
    scaleAdd: @escaping ScaleAdd, softplus: @escaping Softplus, sigmoid: @escaping Sigmoid,
    columns: @escaping Columns, probabilities: @escaping Probabilities,
    exponentialTile: @escaping ExponentialTileKernel, scaleByRowAndColumn: @escaping ScaleByRowAndColumn
  ) {
    self.largest = largest
    self.exponentials = exponentials
    self.sum = sum
    self.scaleAdd = scaleAdd
    self.softplus = softplus
    self.sigmoid = sigmoid
    self.columns = columns
    self.probabilities = probabilities
    self.exponentialTile = exponentialTile
    self.scaleByRowAndColumn = scaleByRowAndColumn
  }
}
