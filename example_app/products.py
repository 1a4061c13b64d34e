"""Products and their pictures, for the API and the pages."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack

from bson import ObjectId

from flask_dualmedia import (
    MediaNotFound,
    ProductImage,
    attach_media,
    delete_media,
    delete_media_of,
    remember_owner,
    save_product_images,
    update_media,
)

from .database import Document, db, find_or_404, now
from .security import Viewer


def find_product(product_id: ObjectId, viewer: Viewer) -> Document:
    """The product with those of its ``images`` that the viewer may see: one MongoDB query, one SQL
    statement."""
    return attach([find_or_404("products", product_id)], viewer)[0]


def attach(products: list[Document], viewer: Viewer) -> list[Document]:
    attach_media(products, visible_to=viewer.claims, images=ProductImage)
    return products


def find_whole_product(product_id: ObjectId) -> Document:
    """The product with all of its ``images``, for changing them. Nobody is shown these."""
    product = find_or_404("products", product_id)
    attach_media([product], images=ProductImage)
    return product


def create_product(
    values: t.Mapping[str, t.Any], sources: t.Sequence[t.Any], *, creator_id: str
) -> Document:
    """Insert a product with its pictures, the first as the main one. If a picture fails, nothing of
    it stays."""
    product = {"_id": ObjectId(), **values, "creator_id": creator_id, "created_at": now()}
    with ExitStack() as undo:
        db.products.insert_one(dict(product))
        undo.callback(db.products.delete_one, {"_id": product["_id"]})
        remember_owner("product", product)
        product["images"] = save_product_images(
            product["_id"],
            sources,
            is_main_image=True,
            position=0,
            uploaded_by=creator_id,
            is_public=True,
        )
        undo.pop_all()
    return product


def find_image(product: Document, image_id: object) -> ProductImage:
    """The picture of the product with this id.

    :raises MediaNotFound: The product, as ``find_whole_product`` gives it, has none with this id.
    """
    for image in product["images"]:
        if str(image.id) == str(image_id):
            return image
    raise MediaNotFound(ProductImage.kind, image_id)


def remove_image(product: Document, image: ProductImage) -> None:
    """Delete a picture. If it was the main one, the next takes its place."""
    delete_media(ProductImage, image.id)
    others = [other for other in product["images"] if other.id != image.id]
    if image.is_main_image and others:
        make_main(product | {"images": others}, others[0])


def make_main(product: Document, image: ProductImage) -> None:
    """Make a picture the main one instead of the one that is."""
    for other in product["images"]:
        if other.is_main_image and other.id != image.id:
            update_media(ProductImage, other.id, is_main_image=False)
    if not image.is_main_image:
        update_media(ProductImage, image.id, is_main_image=True)


def delete_product(product: Document) -> None:
    """Delete a product, then what belongs to it: of a failure on the way ``flask dualmedia check
    --repair`` takes away the pictures that are left."""
    db.products.delete_one({"_id": product["_id"]})
    delete_media_of("product", product["_id"])
    db.reviews.delete_many({"target_id": product["_id"]})
