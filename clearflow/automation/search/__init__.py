"""Searching parameters: trials that are tasks, chosen one after the other.

strategies (which point next) ─ trials (what the tasks say) ─ engine (the loop) ─ report
"""
