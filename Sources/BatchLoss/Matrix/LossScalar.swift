import BatchLossKernelInterface

/// The scalar types of batches: `Float` and `Double`, and no others.
public protocol LossScalar: KernelScalar {}
extension Float: LossScalar {}
extension Double: LossScalar {}
