"""Reviews of products and courses: one of each user."""

from __future__ import annotations

from http import HTTPStatus

from bson import ObjectId
from flask import Blueprint
from flask.typing import ResponseReturnValue
from flask_jwt_extended import jwt_required
from marshmallow import fields, validate
from pymongo.errors import DuplicateKeyError
from werkzeug.exceptions import Conflict

from ..database import db, find_or_404, find_page, now
from ..schemas import PAGE, Id, Schema, Text, dump, page_body, read, read_query
from ..security import require_change, viewer

blueprint = Blueprint("reviews", __name__)


class ReviewSchema(Schema):
    id = Id(attribute="_id", dump_only=True)
    rating = fields.Integer(required=True, strict=True, validate=validate.Range(1, 5))
    text = Text(load_default="", validate=validate.Length(max=5_000))
    author = fields.String(dump_only=True)
    created_at = fields.AwareDateTime(dump_only=True)


@blueprint.get("/<any(products, courses):collection>/<ObjectId:target_id>/reviews")
def list_reviews(collection: str, target_id: ObjectId) -> ResponseReturnValue:
    find_or_404(collection, target_id)
    query = read_query(PAGE)
    reviews, has_next = find_page("reviews", where={"target_id": target_id}, **query)
    return page_body(
        "reviews", [dump(ReviewSchema(), review) for review in reviews], query, has_next=has_next
    )


@blueprint.post("/<any(products, courses):collection>/<ObjectId:target_id>/reviews")
@jwt_required()
def post_review(collection: str, target_id: ObjectId) -> ResponseReturnValue:
    find_or_404(collection, target_id)
    author = viewer()
    review = {
        "_id": ObjectId(),
        **read(ReviewSchema()),
        "target_id": target_id,
        "creator_id": author.id,
        "author": author.name,
        "created_at": now(),
    }
    try:
        db.reviews.insert_one(review)
    except DuplicateKeyError as error:
        raise Conflict("You have reviewed this already.") from error
    return {"review": dump(ReviewSchema(), review)}, HTTPStatus.CREATED


@blueprint.delete("/reviews/<ObjectId:review_id>")
@jwt_required()
def delete_review(review_id: ObjectId) -> ResponseReturnValue:
    require_change(find_or_404("reviews", review_id))
    db.reviews.delete_one({"_id": review_id})
    return "", HTTPStatus.NO_CONTENT
