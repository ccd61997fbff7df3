import BatchLossKernelInterface

/// The kernels of the instruction set that this module is compiled for.
package func makeKernelSet() -> KernelSet {
  KernelSet(
    float: table(of: SIMD16<Float>.self), double: table(of: SIMD8<Double>.self),
    registerElementwise: { registerElementwiseKernels($0) })
}

@inline(__always)
private func table<V: KernelVector>(of vector: V.Type) -> KernelTable<V.Lane> {
  KernelTable(
    elementaryFunction: { applyElementaryFunction($0, $1, $2, $3, as: vector) },
    memoryProbe: { probeMemory($0, $1, $2, $3, as: vector) },
    interpretFormula: { interpretFormula($0, $1, &$2, as: vector) },
    sum: { sum($0, $1, as: vector) },
    countOutside: { countOutside($0, $1, $2, $3, as: vector) },
    labelWeight: { labelWeight($0, $1, $2, $3, as: vector) },
    softmaxCrossEntropy: { softmaxCrossEntropy(&$0, as: vector) },
    klDivergence: { klDivergence(&$0, as: vector) },
    ctc: ctcKernels(as: vector),
    rows: rowKernels(of: vector),
    products: productKernels(of: vector),
    distances: distanceKernels(of: vector),
    contrastive: contrastiveKernels(of: vector),
    triplets: tripletKernels(of: vector),
    similarities: similarityKernels(of: vector),
    screening: screeningKernels(of: vector))
}
