"""Defect detection: is a function defective?"""
