import BatchLossFormulas

extension SIMDMask: LossMask {}
