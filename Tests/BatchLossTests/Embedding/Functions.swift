import Foundation

func _exp(_ x: Double) -> Double { exp(x) }
func _log1p(_ x: Double) -> Double { log1p(x) }
