import Foundation

func _exp(_ x: Double) -> Double { exp(x) }
func _log1p(_ x: Double) -> Double { log1p(x) }
func _log(_ x: Double) -> Double { log(x) }
func _cos(_ x: Double) -> Double { cos(x) }
func _sin(_ x: Double) -> Double { sin(x) }
func _acos(_ x: Double) -> Double { acos(x) }
