/// The kernels of one instruction set for one scalar type. A new kernel is a field here, filled in
/// `Kernels/KernelSet.swift`.
package final class KernelTable<Scalar: KernelScalar>: Sendable {
  package let elementaryFunction: ElementaryFunctionKernel<Scalar>
  package let memoryProbe: MemoryProbeKernel<Scalar>
  package let interpretFormula: FormulaKernel<Scalar>
  package let sum: SumKernel<Scalar>
  package let countOutside: CountOutsideKernel<Scalar>
  package let labelWeight: LabelWeightKernel<Scalar>
  package let softmaxCrossEntropy: SoftmaxCrossEntropyKernel<Scalar>
  package let klDivergence: KLDivergenceKernel<Scalar>
  package let ctc: CTCKernels<Scalar>
  package let rows: RowKernels<Scalar>
  package let products: ProductKernels<Scalar>
  package let distances: DistanceKernels<Scalar>
  package let contrastive: ContrastiveKernels<Scalar>
  package let triplets: TripletKernels<Scalar>
  package let similarities: SimilarityKernels<Scalar>
  package let screening: ScreeningKernels<Scalar>?

  package init(
    elementaryFunction: @escaping ElementaryFunctionKernel<Scalar>,
    memoryProbe: @escaping MemoryProbeKernel<Scalar>,
    interpretFormula: @escaping FormulaKernel<Scalar>,
    sum: @escaping SumKernel<Scalar>,
    countOutside: @escaping CountOutsideKernel<Scalar>,
    labelWeight: @escaping LabelWeightKernel<Scalar>,
    softmaxCrossEntropy: @escaping SoftmaxCrossEntropyKernel<Scalar>,
    klDivergence: @escaping KLDivergenceKernel<Scalar>,
    ctc: CTCKernels<Scalar>,
    rows: RowKernels<Scalar>,
    products: ProductKernels<Scalar>,
    distances: DistanceKernels<Scalar>,
    contrastive: ContrastiveKernels<Scalar>,
    triplets: TripletKernels<Scalar>,
    similarities: SimilarityKernels<Scalar>,
    screening: ScreeningKernels<Scalar>?
  ) {
    self.elementaryFunction = elementaryFunction
    self.memoryProbe = memoryProbe
    self.interpretFormula = interpretFormula
    self.sum = sum
    self.countOutside = countOutside
    self.labelWeight = labelWeight
    self.softmaxCrossEntropy = softmaxCrossEntropy
    self.klDivergence = klDivergence
    self.ctc = ctc
    self.rows = rows
    self.products = products
    self.distances = distances
    self.contrastive = contrastive
    self.triplets = triplets
    self.similarities = similarities
    self.screening = screening
  }
}

/// The kernels of one instruction set.
package final class KernelSet: Sendable {
  package let float: KernelTable<Float>
  package let double: KernelTable<Double>
  /// Hands over the type and the kernels of every element-wise loss compiled ahead of time.
  package let registerElementwise: @Sendable (ElementwiseRegister) -> Void

  package init(
    float: KernelTable<Float>, double: KernelTable<Double>,
    registerElementwise: @escaping @Sendable (ElementwiseRegister) -> Void
  ) {
    self.float = float
    self.double = double
    self.registerElementwise = registerElementwise
  }
}
