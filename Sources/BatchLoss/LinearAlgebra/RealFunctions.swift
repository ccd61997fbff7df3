import Foundation

// The few functions of single numbers that losses need outside kernels.

/// The natural logarithm.
func logarithm(_ x: Double) -> Double { log(x) }

/// log(1 + x).
func logarithm(onePlus x: Double) -> Double { log1p(x) }

/// eˣ.
func exponential(_ x: Double) -> Double { exp(x) }

/// The sine and cosine of an angle.
func sineAndCosine(_ angle: Double) -> (sine: Double, cosine: Double) { (sin(angle), cos(angle)) }
