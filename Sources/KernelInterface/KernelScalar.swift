/// The scalar types that kernels are compiled for.
public protocol KernelScalar: BinaryFloatingPoint, SIMDScalar, Codable, BitwiseCopyable, Sendable {}
extension Float: KernelScalar {}
extension Double: KernelScalar {}
